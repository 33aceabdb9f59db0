import pytest

from medllm.clinical import review_answer
from medllm.clinical.patient import Patient, read_patient
from medllm.errors import DataError


def test_what_is_not_given_is_not_known() -> None:
    assert read_patient(None) == read_patient({}) == read_patient({"age": None}) == Patient()
    assert not Patient().is_child


def test_a_context_is_read() -> None:
    patient = read_patient(
        {"age": 67, "sex": "female", "pregnant": False, "allergies": "penicillin",
         "medications": ["warfarin 5 mg", "aspirin"]}
    )  # fmt: skip

    assert patient.age == 67 and patient.pregnant is False
    assert patient.allergies == ("penicillin",)
    assert patient.medications == ("warfarin 5 mg", "aspirin")


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"alergies": ["x"]}, "unknown key 'alergies'"),
        ({"age": "sixty"}, "age must be a number"),
        ({"age": True}, "age must be a number"),
        ({"age": 400}, "age must be between 0 and 130"),
        ({"egfr": float("nan")}, "egfr must be between"),
        ({"sex": "x"}, "sex must be female or male"),
        ({"pregnant": "no"}, "pregnant must be true or false"),
        ({"conditions": [3]}, "conditions must be a list of texts"),
    ],
)
def test_a_wrong_context_is_refused_without_its_value(
    context: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError) as raised:
        review_answer("Rest.", context=context)

    assert message in raised.value.message
    assert "sixty" not in raised.value.message + raised.value.fix
