import subprocess
import sys
from pathlib import Path

import pytest

from cloudseg.config_files import FastLoader, main, repeated_keys, text_problems

REPO = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("name: x\nseed: 3\n", []),
        ("a: {b: 1, c: 2}\nd: {b: 1}\n", []),
        ("a: &x {b: 1}\nc:\n  <<: *x\n  b: 2\n", []),
        ("", []),
        ("__use_yte__: true\n?if 1:\n  a: 1\n?if 1:\n  b: 1\n", []),
        ("seed: 3\nname: x\nseed: 4\n", [", line 3: the key seed is there twice, first in line 1; remove one"]),
        (
            "a:\n  b:\n    - c: 1\n      c: 2\n",
            [", line 4: the key a.b.0.c is there twice, first in line 3; remove one"],
        ),
        ("1: a\n'1': b\n", [", line 2: the key 1 is there twice, first in line 1; remove one"]),
        ('{"a": 1, "a": 2}', [", line 1: the key a is there twice, first in line 1; remove one"]),
        ("a: &x {b: 1, b: 2}\nc: *x\n", [", line 1: the key a.b is there twice, first in line 1; remove one"]),
    ],
)
def test_keys_that_stand_twice_are_told_with_their_lines(text, problems, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert text_problems(path) == repeated_keys([path]) == [f"{path}{problem}" for problem in problems]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"name: x\ndataset:\n  source: demo\n root: y\n", ", line 4: "),
        (b"name: x\n\tseed: 3\n", ", line 2: found character '\\t' that cannot start any token; indent with blanks"),
        (b"a: [1, 2\nb: 3\n", ", line 2: expected ',' or ']'"),
        (b"members: decoder == 'fpn': x\n", ", line 1: mapping values are not allowed here"),
        (b"a: 'x\n", ", line 2: found unexpected end of stream"),
        (b"a: *nope\n", ", line 1: found undefined alias 'nope'"),
        (b"a: \x00\n", ": no YAML"),
        (b"a: \xff\n", ": not UTF-8 text"),
        (b"[" * 100_000, ": nested too deeply to read"),
        (b"- " * 30_000, ": nested too deeply to read"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(text, complaint, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(text)
    (problem,) = text_problems(path)
    assert problem.startswith(f"{path}{complaint}")


def test_a_config_that_is_not_there_is_named(tmp_path):
    assert text_problems(tmp_path / "mine.yaml") == [
        f"{tmp_path / 'mine.yaml'}: cannot be read (No such file or directory)"
    ]


@pytest.mark.parametrize("path", sorted((REPO / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configs_repeat_no_key(path):
    assert text_problems(path) == text_problems(path, FastLoader) == []


def test_a_config_can_be_checked_without_snakemake(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("name: mine\ndataset: {source: demo, trian: 3}\n")
    assert main([str(REPO / "config/config.yaml")]) == 0
    assert main([str(REPO / "config/config.yaml"), str(tmp_path / "mine.yaml")]) == 1
    assert "mine.yaml: 5 problems to mend" in capsys.readouterr().out
    (tmp_path / "mine.yaml").write_text("name: mine\n dataset: 3\n")
    command = [sys.executable, "-m", "cloudseg.config_files", str(tmp_path / "mine.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, f"{tmp_path}/mine.yaml, line 2: mapping values are not allowed here\n")
