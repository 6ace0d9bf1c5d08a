"""What a bundle says of its ensemble, checked as a whole before anything is made of it; without torch."""

from cloudseg.bundle.archive import PROVENANCE, Archive
from cloudseg.config.views import variants_of
from cloudseg.provenance.record import Member, Provenance


def read_provenance(archive: Archive) -> Provenance:
    """Return what the ensemble's submission was made from.

    Raises
    ------
    DamagedFileError : if it does not say how each network of the bundle, and no other, predicts.
    """
    try:
        provenance = Provenance.parse_text(archive.text(PROVENANCE), PROVENANCE)
        for training in provenance.trainings:
            variants_of(training.own_recipe)
    except ValueError as error:
        raise archive.damaged_by(error) from None
    packed = [network.key for network in archive.contents.networks]
    members = {member_key(member) for member in provenance.predicted("test")}
    if len(set(packed)) != len(packed) or set(packed) != members or not provenance.blended("test"):
        raise archive.damaged(f"its {len(packed)} networks are not those of the {len(members)} members")
    return provenance


def member_key(member: Member) -> tuple[str, str]:
    """Return what tells the network of a member from others: its run, and the name of the checkpoint."""
    return member.run, member.checkpoint
