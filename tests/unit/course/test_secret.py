"""The one secret of a course: what is good enough, where it is kept, and what is drawn from it."""

import pytest

from leaklib.course import secret

FIRST = "a secret of the tests, 0123456789 abcdef"
SECOND = "another secret of the tests, 9876543210"


def test_new_secrets_are_good_enough_and_never_the_same():
    assert len({secret.new_secret() for _ in range(5)}) == 5
    secret.check_secret(secret.new_secret())


def test_text_and_bytes_are_the_same_secret():
    assert secret.check_secret(FIRST) == secret.check_secret(FIRST.encode()) == FIRST.encode()


@pytest.mark.parametrize(
    "weak, came",
    [
        ("sesame open", "11 characters"),
        (b"", "0 characters"),
        ("ab" * 32, "2 different characters"),
        (None, "NoneType"),
        (12, "int"),
    ],
)
def test_a_secret_that_can_be_guessed_is_refused_and_not_shown(weak, came):
    wanted = f"^secret: got {came}; wanted at least 32 random characters"
    with pytest.raises(ValueError, match=wanted) as error:
        secret.check_secret(weak)
    assert "sesame" not in str(error.value)


def test_a_new_secret_is_for_its_owner_alone_and_never_overwritten(tmp_path):
    path = tmp_path / "secret.txt"
    secret.write_secret(path)
    content = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        secret.write_secret(path)
    assert path.read_text() == content
    assert secret.read_secret(path) == content.strip().encode()


def test_a_secret_in_a_file_is_read_without_the_spaces_around_it(tmp_path):
    (tmp_path / "secret.txt").write_text(f"  {FIRST}\r\n")
    assert secret.read_secret(tmp_path / "secret.txt") == FIRST.encode()


def test_a_file_that_is_missing_weak_or_endless_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        secret.seed("q1", tmp_path / "absent.txt")
    (tmp_path / "short.txt").write_text("short \n" + " " * 40)
    with pytest.raises(ValueError, match="secret: got 5 characters"):
        secret.seed("q1", tmp_path / "short.txt")
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(ValueError, match="secret: got 1 different characters"):
        secret.seed("q1", tmp_path / "huge.txt")


def test_a_seed_depends_on_secret_and_purpose_alone(tmp_path):
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text(FIRST + "\n")
    second.write_text(SECOND)
    assert secret.seed("q1", first) == secret.seed("q1", first)
    seeds = {secret.seed(purpose, path) for purpose in ("q1", "q2") for path in (first, second)}
    assert len(seeds) == 4 and all(0 <= seed < 2**63 for seed in seeds)


def test_a_seed_is_read_beside_the_tests_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.txt").write_text(FIRST)
    # written down once: the cases of a course stay what they are
    assert secret.seed("labels q1") == 2862238206893339892
