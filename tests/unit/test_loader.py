"""One YAML dialect, and errors that say where and what to write instead."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from medllm.config import dialect
from medllm.config.base import Place, Ref, Strict
from medllm.config.loader import Document, assign, merge, parse_assignments, read_yaml, validate
from medllm.errors import ConfigError


class Training(Strict):
    learning_rate: float = 2e-4
    max_length: int = 1024
    labels: tuple[str, ...] = ()
    bf16: bool = False
    extra: dict[str, Any] = {}


class Cat(Strict):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(Strict):
    kind: Literal["dog"] = "dog"
    tricks: tuple[str, ...] = ()


class Sheet(Strict):
    name: str = "default"
    training: Training = Training()
    output: Place | None = None
    models: tuple[Ref, ...] = ()
    pets: tuple[Annotated[Cat | Dog, Field(discriminator="kind")], ...] = ()


def load(text: str, *assignments: str, path: str = "sheet.yaml") -> Sheet:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")
    return validate(Sheet, merge(read_yaml(Path(path)), parse_assignments(assignments)))


def refusal(text: str, *assignments: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(text, *assignments)
    return caught.value


# What YAML means


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("1e-4", 1e-4),
        ("010", 10),
        ("0x1F", 31),
        ("1E5", 1e5),
        ("2.5e-3", 2.5e-3),
        ("-1.e+2", -100.0),
        (".5", 0.5),
        ("3", 3.0),
    ],
)
def test_floats_are_those_of_yaml_1_2(written: str, number: float) -> None:
    assert load(f"training: {{learning_rate: {written}}}").training.learning_rate == number


def test_a_time_is_text() -> None:
    assert load("training: {labels: [12:30]}").training.labels == ("12:30",)


def test_yes_and_no_are_words() -> None:
    assert load("training: {labels: [yes, no, maybe, on, off, y]}").training.labels == (
        "yes", "no", "maybe", "on", "off", "y",
    )  # fmt: skip


@pytest.mark.parametrize("word", ["true", "True", "TRUE"])
def test_true_is_a_boolean(word: str) -> None:
    assert load(f"training: {{bf16: {word}}}").training.bf16 is True


def test_a_date_stays_text() -> None:
    assert load("name: 2024-05-01").name == "2024-05-01"


def test_an_empty_file_is_all_defaults() -> None:
    assert load("") == Sheet()
    assert load("# nothing but a comment\n") == Sheet()


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert load("\ufeffname: lora").name == "lora"


# Files on top of files


def test_a_child_is_merged_deep_and_its_lists_replace() -> None:
    Path("parent.yaml").write_text(
        "name: parent\ntraining: {max_length: 512, learning_rate: 1e-3, labels: [a, b, c]}\n"
    )

    sheet = load("extends: parent.yaml\ntraining: {learning_rate: 1e-5, labels: [z]}\n")

    assert sheet.name == "parent"
    assert sheet.training == Training(max_length=512, learning_rate=1e-5, labels=("z",))


def test_an_error_in_the_parent_points_into_the_parent() -> None:
    Path("parent.yaml").write_text("name: parent\ntraining:\n  max_lenght: 512\n")

    assert refusal("extends: parent.yaml\nname: child").message == (
        "parent.yaml:3: training.max_lenght: unknown key; did you mean 'max_length'?"
    )


def test_a_file_may_not_extend_itself_by_a_detour() -> None:
    Path("other.yaml").write_text("extends: sheet.yaml\n")

    problem = refusal("extends: other.yaml")

    assert problem.message == "sheet.yaml: extends itself"


def test_a_missing_parent_is_named_with_its_line() -> None:
    problem = refusal("name: a\nextends: nowhere.yaml\n")

    assert problem.message == "sheet.yaml:2: extends: no such file: nowhere.yaml"


def test_extends_names_one_file() -> None:
    assert refusal("extends: [a.yaml]").message == "sheet.yaml:1: extends: must name one file"


# Where a relative path begins


def test_paths_of_a_file_are_relative_to_it_and_those_of_set_to_the_working_folder() -> None:
    Path("models/mine").mkdir(parents=True)
    text = "output: ../results\nmodels: [../models/mine, ./nowhere, org/name, mine]\n"

    sheet = load(text, path="recipes/deep.yaml")

    here = Path.cwd()
    assert sheet.output == here / "results"
    assert sheet.models == (
        str(here / "models/mine"), str(here / "recipes/nowhere"), "org/name", "mine",
    )  # fmt: skip
    assert load(text, "output=results/x", path="recipes/deep.yaml").output == here / "results/x"


def test_a_list_from_set_is_relative_to_the_working_folder_too() -> None:
    for folder in ("mine", "recipes/mine"):
        Path(folder).mkdir(parents=True)

    sheet = load("models: [mine]", "models=[mine]", path="recipes/deep.yaml")

    assert sheet.models == (str(Path.cwd() / "mine"),)


def test_a_parents_paths_are_relative_to_the_parent() -> None:
    Path("shared").mkdir()
    Path("shared/parent.yaml").write_text("output: results\n")

    sheet = load("extends: ../shared/parent.yaml", path="recipes/child.yaml")

    assert sheet.output == Path.cwd() / "shared/results"


def test_variables_and_the_home_folder_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    monkeypatch.setenv("HOME", "/home/me")

    sheet = load("output: ${SCRATCH}/runs\nmodels: [~/models/base]")

    assert sheet.output == Path("/scratch/me/runs")
    assert sheet.models == ("/home/me/models/base",)


def test_an_unset_variable_is_named_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCRATCH", raising=False)

    problem = refusal("name: a\noutput: ${SCRATCH}/runs")

    assert problem.message == "sheet.yaml:2: the environment variable SCRATCH is not set"
    assert problem.fix == "export SCRATCH=… or use --set"


@pytest.mark.parametrize("text", ["output: ''", "output: ' '", "name: a\nmodels: ['']"])
def test_an_empty_place_is_not_the_folder_of_the_file(text: str) -> None:
    problem = refusal(text)

    assert problem.message == f"sheet.yaml:{text.count(chr(10)) + 1}: the name is empty"


# What is wrong, where


def test_all_errors_come_at_once_each_with_its_line() -> None:
    problem = refusal(
        "name: 5\n"
        "training:\n"
        "  learning_rte: 1e-4\n"
        "  max_length: long\n"
        "  bf16: yes\n"
        "pets:\n"
        "  - {kind: cat}\n"
        "  - {kind: cat, live: 7}\n"
    )

    assert sorted(problem.message.splitlines()) == [
        "sheet.yaml:1: name: input should be a valid string, got 5",
        "sheet.yaml:3: training.learning_rte: unknown key; did you mean 'learning_rate'?",
        "sheet.yaml:4: training.max_length: input should be a valid integer, got 'long'",
        "sheet.yaml:5: training.bf16: input should be a valid boolean, got 'yes'",
        "sheet.yaml:8: pets.1.live: unknown key; did you mean 'lives'?",
    ]
    assert problem.exit_code == 2


def test_a_key_like_no_other_gets_the_list() -> None:
    assert refusal("zzz: 1").message == (
        "sheet.yaml:1: zzz: unknown key; known keys: models, name, output, pets, training"
    )


def test_a_wrong_variant_names_the_right_ones() -> None:
    message = refusal("pets: [{kind: fish}]").message

    assert message.startswith("sheet.yaml:1: pets.0: ")
    assert "'cat', 'dog'" in message


def test_numbers_are_not_rounded_into_integers() -> None:
    assert "training.max_length" in refusal("training: {max_length: 10.5}").message


def test_a_key_written_twice_is_refused() -> None:
    problem = refusal("name: a\ntraining:\n  max_length: 1\n  max_length: 2\n")

    assert problem.message == "sheet.yaml:4: training.max_length: written twice"


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "5"])
def test_a_file_must_be_a_mapping(text: str) -> None:
    assert refusal(text).message == "sheet.yaml: must be a mapping of keys to values"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: a\ntraining: [1, 2\n", 3),
        ("name: a\n\ttraining: 1\n", 2),
        ("name: a: b\n", 1),
        ("name: !!python/object:os.system x\n", 1),
        ("name: *nothing\n", 1),
        ("name: a\n---\nname: b\n", 2),
    ],
)
def test_broken_yaml_names_its_line(text: str, line: int) -> None:
    assert refusal(text).message.startswith(f"sheet.yaml:{line}: not valid YAML: ")


@pytest.mark.parametrize("text", ["training: {extra:5}", "{name:a}", "training: {bf16: true, x:y}"])
def test_a_colon_without_a_blank_is_said(text: str) -> None:
    assert ": not valid YAML: no blank after the colon of " in refusal(text).message
    assert load("training: {bf16: true}\nname: 'a:b'").name == "a:b"


@pytest.mark.parametrize("text", ["name: a\x00b\n", "name: \x07\n", "[a, b]: 1\n", "{a: 1}: 1\n"])
def test_what_yaml_cannot_hold_is_a_config_error(text: str) -> None:
    assert refusal(text).message.startswith("sheet.yaml")


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 9)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 300))
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{level}: &a{level} {{<<: [{','.join([f'*a{level - 1}'] * 9)}]}}\n" for level in range(1, 9)
)
HOSTILE = {
    "lists in lists": ("name: " + "[" * 5000 + "]" * 5000, "nested more than 50 deep"),
    "maps in maps": ("name: " + "{a: " * 600 + "1" + "}" * 600, "nested more than 50 deep"),
    "blocks in blocks": ("".join(" " * n + "a:\n" for n in range(1500)), "nested more than 50"),
    "an anchor in itself": ("training: &a\n  labels: *a\n", "an anchor that contains itself"),
    "a list in itself": ("training:\n  labels: &a [*a]\n", "an anchor that contains itself"),
    "a key in itself": ("&a {? *a : 1}\n", "an anchor that contains itself"),
    "a bomb": (BOMB, "more than 100,000 values"),
    "a bomb of merge keys": (MERGES, "more than 100,000 values"),
    "a chain of aliases": (CHAIN, "nested more than 50 deep"),
    "bytes": ("name: !!binary aGVsbG8=\n", "the tag !!binary is not read"),
    "a set": ("training: {labels: !!set {a}}\n", "the tag !!set is not read"),
    "an ordered map": ("training: !!omap [name: x]\n", "the tag !!omap is not read"),
    "a date": ("name: !!timestamp 2001-01-01\n", "the tag !!timestamp is not read"),
    "code": ('name: !!python/object/apply:os.system ["true"]\n', "the tag !!python/object/apply"),
    "a tag of one's own": ("name: !mine x\n", "is not read"),
    "no whole number": ("training: {max_length: !!int abc}\n", "not what its tag !!int says"),
    "no number": ("training: {learning_rate: !!float abc}\n", "not what its tag !!float says"),
    "no truth value": ("training: {bf16: !!bool maybe}\n", "not what its tag !!bool says"),
    "no list": ("training: {labels: !!seq a}\n", "not valid YAML"),
    "no mapping": ("training: !!map [a]\n", "not valid YAML"),
    "no text": ("name: !!str [a]\n", "not valid YAML"),
    "a very long number": (f"training: {{max_length: {'9' * 5000}}}\n", "more than 40 digits"),
    "no character": ('name: "\\UFFFFFFFF"\n', "an escape that is no character"),
    "half a character": ('name: "\\ud800"\n', "surrogate"),
    "a path with a NUL": ('output: "a\\0b"\n', "a path holds no NUL"),
    "a stranger's home": ("output: ~nobodyhere/x\n", "no home folder is known for ~nobodyhere"),
    "a mistyped text": ("name: =\ntraining: 1\n", "training"),
    "infinity": ("training: {learning_rate: .inf}\n", "must be a finite number, not inf"),
    "a number that overflows": ("training: {learning_rate: 1e999}\n", "must be a finite number"),
    "no number inside": ("training: {extra: {a: [{b: .nan}]}}\n", "must be a finite number"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_person_writes_is_refused_with_its_line(name: str) -> None:
    text, expected = HOSTILE[name]

    problem = refusal(text)

    assert expected in problem.message
    assert len(problem.message) < 300
    assert problem.exit_code == 2


def test_more_values_than_a_person_writes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialect, "MOST_VALUES", 1000)

    assert len(load("training: {labels: [" + "a," * 900 + "]}").training.labels) == 900
    assert "more than 1,000 values" in refusal("training: {labels: [" + "1," * 1001 + "]}").message


@pytest.mark.parametrize("name", ["lists in lists", "bytes", "no whole number", "no character"])
def test_set_reads_no_more_than_a_file(name: str) -> None:
    text, expected = HOSTILE[name]
    value = text.removeprefix("training: ").removeprefix("name: ").strip()

    assert expected in refusal("", f"name={value}").message


def test_set_refuses_a_bomb_and_an_anchor_in_itself() -> None:
    flow = "{" + ", ".join(BOMB.strip().splitlines()) + "}"

    assert "more than 100,000 values" in refusal("", f"name={flow}").message
    assert "an anchor that contains itself" in refusal("", "name=&a [*a]").message
    assert "written twice" in refusal("", "training={bf16: true, bf16: false}").message
    assert "more than 50 parts" in refusal("", ".".join(["a"] * 5000) + "=1").message


def test_an_alias_and_a_merge_key_are_read() -> None:
    text = "pets:\n- {kind: dog, tricks: &s [sit]}\n- {kind: dog, tricks: *s}\n"

    assert [pet.tricks for pet in load(text).pets if isinstance(pet, Dog)] == [("sit",)] * 2
    assert "base: unknown key" in refusal("base: &b {name: x}\n<<: *b\n").message


def test_a_tag_that_says_what_the_value_is_is_read() -> None:
    assert load("name: !!str 12").name == "12"
    assert load(
        "training: {learning_rate: !!float 3, max_length: !!int 0x10}"
    ).training == Training(learning_rate=3.0, max_length=16)


def test_a_long_chain_of_parents_is_refused() -> None:
    for number in range(30):
        Path(f"c{number}.yaml").write_text(f"extends: c{number + 1}.yaml\n")

    with pytest.raises(ConfigError, match="extends a chain of more than 20 files"):
        read_yaml(Path("c0.yaml"))


@pytest.mark.parametrize("name", ["x" * 5000, "/dev/zero", ".", "''", '"a\\0b"'])
def test_a_parent_that_is_no_file_is_refused(name: str) -> None:
    assert "extends: no such file: " in refusal(f"extends: {name}\n").message


def test_bytes_that_are_no_text_are_refused_with_their_key() -> None:
    with pytest.raises(ConfigError, match="--name: name: not UTF-8 text"):
        validate(Sheet, assign("name", "caf\udce9", "--name"))
    with pytest.raises(ConfigError, match="--output: the name of the file is not UTF-8"):
        validate(Sheet, assign("output", "./caf\udce9", "--output"))


def test_of_very_many_errors_the_first_are_shown() -> None:
    problem = refusal("".join(f"k{number}: 1\n" for number in range(5000)))

    assert len(problem.message.splitlines()) == 21
    assert problem.message.endswith("and 4,980 more")


def test_a_special_file_and_a_very_large_one_are_refused() -> None:
    os.mkfifo("fifo.yaml")
    with Path("large.yaml").open("wb") as file:
        file.truncate(33 * 2**20)

    for name, message in (("fifo", "is no regular file"), ("large", "is larger than 32 MiB")):
        with pytest.raises(ConfigError, match=message):
            read_yaml(Path(f"{name}.yaml"))


def test_utf_16_is_refused() -> None:
    Path("wide.yaml").write_bytes("name: x".encode("utf-16"))

    with pytest.raises(ConfigError, match=r"^wide\.yaml: not UTF-8 text"):
        read_yaml(Path("wide.yaml"))


def test_other_encodings_are_refused() -> None:
    Path("latin.yaml").write_bytes("name: Müller".encode("latin-1"))

    with pytest.raises(ConfigError, match=r"^latin\.yaml: not UTF-8 text") as caught:
        read_yaml(Path("latin.yaml"))
    assert caught.value.fix == "save the file as UTF-8"


def test_a_missing_file_and_a_folder_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no such file: nowhere\.yaml"):
        read_yaml(Path("nowhere.yaml"))
    Path("folder.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"folder\.yaml is a folder"):
        read_yaml(Path("folder.yaml"))


# --set


def test_set_reads_its_value_as_yaml() -> None:
    sheet = load(
        "name: file\ntraining: {max_length: 5}",
        "name=set",
        "training.learning_rate=1e-4",
        "training.labels=[yes, no]",
        "training.extra={a: {b: true}}",
    )

    assert sheet == Sheet(
        name="set",
        training=Training(
            max_length=5, learning_rate=1e-4, labels=("yes", "no"), extra={"a": {"b": True}}
        ),
    )


def test_a_value_may_hold_an_equals_sign() -> None:
    assert load("", "name=a=b").name == "a=b"


@pytest.mark.parametrize("assignment", ["name", "=5", " =5"])
def test_set_needs_a_key_and_a_value(assignment: str) -> None:
    problem = refusal("", assignment)

    assert problem.message == f"--set {assignment}: not of the form KEY=VALUE"


def test_set_with_broken_yaml_is_refused() -> None:
    assert refusal("", "name=[a").message.startswith("--set name:1: not valid YAML: ")


def test_an_error_in_set_points_to_set() -> None:
    text = "training: {learning_rate: 1.0, extra: {a: 1}}"

    assert refusal(text, "training.learning_rate=fast").message == (
        "--set training.learning_rate: input should be a valid number, got 'fast'"
    )
    assert refusal(text, "training.learning=1").message == (
        "--set training.learning: unknown key; did you mean 'learning_rate'?"
    )


def test_an_error_inside_a_mapping_from_set_points_to_set() -> None:
    message = refusal("training: {learning_rate: 1.0}", "training={learning_rate: fast}").message

    assert message.startswith("--set training: training.learning_rate: input should be a ")


def test_flags_without_a_file_make_a_whole_configuration() -> None:
    assert validate(Sheet, Document()) == Sheet()
