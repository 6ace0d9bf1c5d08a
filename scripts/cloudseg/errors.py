"""The errors that a person can mend, as a tree.

A job that ends with one prints its message alone; whatever else ends a job leaves its traceback. A
:class:`MachineError` is worth another attempt (``retries``), since the next one may meet another machine or less
load; the others would end alike. Arguments that no user writes raise a plain ``ValueError``, which is a fault of ours,
and would end alike, too.

    UserError(ValueError)
      ConfigError            a config, a sheet, a recipe, a command line
      DatasetError           the user's images, labels and tables
      DamagedFileError       a file that a job made: absent, cut short or changed
        StoreError           a Zarr store, likewise
      MachineError           a machine or its memory
        DeviceError          no such device, or its locks cannot be used
        DiskFullError        also an OSError
        OutOfMemoryError     of a device or of the CPU

This module imports nothing, so that every folder of the package may use it.
"""


class UserError(ValueError):
    """An error whose cause a person can mend; the message says how.

    Examples
    --------
    >>> isinstance(DiskFullError("a.txt: no space"), UserError | OSError)
    True
    """


class ConfigError(UserError):
    """A value of a config, a sheet, a recipe or a command line that cannot be used."""


class DatasetError(UserError):
    """Images, labels or tables of the user's that cannot be used."""


class DamagedFileError(UserError):
    """A file of a job that is absent, or not as the job wrote it."""


class StoreError(DamagedFileError):
    """A store that is absent, incomplete or damaged."""


class MachineError(UserError):
    """What this machine lacks; another attempt may end well."""


class DeviceError(MachineError):
    """A device that is not there, or whose locks cannot be used."""


class DiskFullError(OSError, MachineError):
    """A file that its disk had no room for."""


class OutOfMemoryError(MachineError):
    """Work that the memory of a device or of the CPU is not enough for."""
