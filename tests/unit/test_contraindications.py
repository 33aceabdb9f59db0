import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medllm.clinical import review_answer
from medllm.clinical.finding import Finding


def found(answer: str, question: str = "", **context: object) -> list[Finding]:
    report = review_answer(answer, question=question, context=context).report
    return [each for each in report.findings if each.kind in {"contraindication", "allergy"}]


def told(answer: str, question: str = "", **context: object) -> list[tuple[str, str]]:
    return [(each.rule, each.severity) for each in found(answer, question, **context)]


@pytest.mark.parametrize(
    ("answer", "context", "rule", "severity"),
    [
        ("Take amoxicillin 500 mg.", {"allergies": ["penicillin"]},
         "allergy.amoxicillin.penicillin", "contraindicated"),
        ("Take Augmentin twice daily.", {"allergies": ["Penicillins (rash)"]},
         "allergy.amoxicillin.penicillin", "contraindicated"),
        ("Start cephalexin 500 mg.", {"allergies": ["penicillin"]},
         "allergy.cephalosporin.penicillin", "moderate"),
        ("Start cephalexin 500 mg.", {"allergies": ["amoxicillin"]},
         "allergy.aminocephalosporin.amoxicillin", "major"),
        ("Take Bactrim DS twice daily.", {"allergies": ["sulfa drugs"]},
         "allergy.sulfonamide.sulfonamide", "contraindicated"),
        ("Take Zocor 20 mg.", {"allergies": ["simvastatin"]}, "allergy.same", "contraindicated"),
        ("Take ibuprofen 400 mg.", {"allergies": ["aspirin"]},
         "allergy.nsaid.aspirin", "contraindicated"),
        ("Take propranolol 40 mg.", {"conditions": ["Asthma"]},
         "contraindication.propranolol.asthma", "contraindicated"),
        ("Take sumatriptan 50 mg.", {"conditions": ["history of heart attack"]},
         "contraindication.triptan.vascular", "contraindicated"),
        ("Take Yasmin.", {"conditions": ["migraine with aura"]},
         "contraindication.oestrogen.thrombosis", "contraindicated"),
        ("Take pioglitazone 30 mg.", {"conditions": ["NYHA IV"]},
         "contraindication.glitazone.heart-failure", "contraindicated"),
        ("Take verapamil 80 mg.", {"conditions": ["HFrEF"]},
         "contraindication.verapamil.hfref", "contraindicated"),
        ("Take ibuprofen 400 mg.", {"conditions": ["severe heart failure"]},
         "contraindication.nsaid.severe-heart-failure", "contraindicated"),
        ("Take primaquine 15 mg.", {"conditions": ["G6PD deficiency"]},
         "contraindication.g6pd.oxidant", "contraindicated"),
        ("Start lisinopril 10 mg.", {"pregnant": True},
         "pregnancy.ace-inhibitor", "contraindicated"),
        ("Take codeine 15 mg.", {"breastfeeding": True}, "breastfeeding.codeine", "major"),
        ("Take codeine 15 mg.", {"age": 11.9}, "age.codeine.12", "contraindicated"),
        ("Take diazepam 5 mg.", {"age": 65}, "age.benzodiazepine.65", "major"),
        ("Start metformin 500 mg.", {"egfr": 29.9}, "renal.metformin.30", "contraindicated"),
        ("Start metformin 500 mg.", {"egfr": 30}, "renal.metformin.45", "major"),
    ],
)  # fmt: skip
def test_what_speaks_against_a_drug_by_the_context(
    answer: str, context: dict[str, object], rule: str, severity: str
) -> None:
    assert (rule, severity) in told(answer, **context)


@pytest.mark.parametrize(
    ("answer", "context"),
    [
        ("Start metformin 500 mg.", {"egfr": 45}),
        ("Take codeine 15 mg.", {"age": 18}),
        ("Take diazepam 5 mg.", {"age": 64.9}),
        ("Take paracetamol 1 g.", {"allergies": ["penicillin"]}),
        ("Take propranolol 40 mg.", {"conditions": ["no asthma"]}),
        ("Take isotretinoin 20 mg.", {"pregnant": False}),
        ("Take isotretinoin 20 mg.", {"sex": "male"}),
        ("Take aspirin 75 mg.", {"conditions": ["heart failure"], "age": 50}),
    ],
)
def test_what_does_not(answer: str, context: dict[str, object]) -> None:
    assert told(answer, **context) == []


@pytest.mark.parametrize(
    ("question", "answer", "rule"),
    [
        ("I'm allergic to penicillin, what can I take?", "Take amoxicillin.",
         "allergy.amoxicillin.penicillin"),
        ("My eGFR is 25 mL/min.", "Start metformin 500 mg.", "renal.metformin.30"),
        ("I am 32 weeks pregnant.", "Take ibuprofen 400 mg.", "pregnancy.nsaid.30"),
        ("my 10 year old is in pain", "You can use codeine.", "age.codeine.12"),
        ("I have asthma.", "Take propranolol.", "contraindication.propranolol.asthma"),
        ("", "For a pregnant woman take isotretinoin.", "pregnancy.isotretinoin"),
        ("Is warfarin safe in pregnancy?", "Yes, take warfarin.", "pregnancy.warfarin"),
    ],
)  # fmt: skip
def test_what_question_and_answer_say_of_the_patient_counts(
    question: str, answer: str, rule: str
) -> None:
    findings = [each for each in found(answer, question) if each.rule == rule]

    assert [each.severity for each in findings] == ["contraindicated"]
    ((begin, end),) = findings[0].spans
    assert answer[begin:end] in findings[0].message.lower() or answer[begin:end]


@pytest.mark.parametrize(
    "answer",
    [
        "Do not take amoxicillin.",
        "Amoxicillin is contraindicated in penicillin allergy.",
        "Avoid amoxicillin; use azithromycin.",
        "Amoxicillin is a penicillin.",
    ],
)
def test_a_warning_or_a_mention_is_no_advice(answer: str) -> None:
    assert told(answer, allergies=["penicillin"]) == []


def test_what_is_not_known_is_said() -> None:
    (finding,) = found("Take isotretinoin 20 mg.")

    assert finding.severity == "info" and "whether the patient is pregnant" in finding.message
    (finding,) = found("Take ibuprofen 400 mg.", "I am pregnant")
    assert finding.severity == "moderate" and "week of pregnancy is not given" in finding.message
    report = review_answer("Start metformin 500 mg and zopiclone 7.5 mg.").report
    assert "contraindication: metformin: the kidney function is not given" in report.not_checked


def test_the_context_wins_over_the_question() -> None:
    assert told("Take isotretinoin.", "Is it safe in pregnancy?", pregnant=False) == []
    assert told("Start metformin.", "My eGFR was 20.", egfr=60) == []


def test_sources_that_disagree_are_named_and_do_not_block() -> None:
    (finding,) = [each for each in found("Take nitrofurantoin.", egfr=45) if "60" in each.rule]

    assert not finding.basis.verified and len(finding.basis.readings) == 2


@pytest.mark.parametrize("form", ["AMOXICILLIN", "Amoxil", "amoxicillin\n", "amoxi\u00adcillin"])
def test_the_form_of_a_name_changes_nothing(form: str) -> None:
    assert told(f"Take {form} 500 mg.", allergies=["PENICILLIN"]) == [
        ("allergy.amoxicillin.penicillin", "contraindicated")
    ]


@given(st.text(max_size=200))
@settings(max_examples=40, deadline=None)
def test_no_text_crashes_it(text: str) -> None:
    answer = f"{text} take metformin 500 mg {text}"
    for each in found(answer, text, conditions=[text], allergies=[text]):
        assert all(0 <= begin < end <= len(answer) for begin, end in each.spans)


@pytest.mark.parametrize(
    ("question", "severity"),
    [
        ("I am not pregnant. What helps acne?", None),
        ("My sister is not pregnant. What helps acne?", "info"),
        ("I was not pregnant last year. What helps acne?", "info"),
        ("My wife is pregnant. What helps acne?", "contraindicated"),
    ],
)
def test_that_somebody_else_is_not_pregnant_lets_no_drug_through(
    question: str, severity: str | None
) -> None:
    findings = found("Take isotretinoin 20 mg.", question)

    assert [each.severity for each in findings] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("answer", "question"),
    [
        ("Take misoprostol 800 mcg to help expel the pregnancy.", "I am pregnant, 9 weeks."),
        ("Give alteplase to dissolve the clot in your brain.", "I have had a stroke today."),
    ],
)
def test_a_drug_is_not_warned_of_where_it_is_the_treatment(answer: str, question: str) -> None:
    report = review_answer(answer, question=question).report
    assert [each for each in report.findings if each.severity in {"major", "contraindicated"}] == []


@pytest.mark.parametrize(
    ("answer", "question"),
    [
        ("Take misoprostol 200 mcg for your ulcer.", "I am pregnant, 9 weeks."),
        ("Give alteplase for the clot in your leg.", "I have had a stroke last week."),
        ("Give alteplase for the acute ischemic stroke.", "I have gastrointestinal bleeding."),
    ],
)
def test_it_is_warned_of_elsewhere(answer: str, question: str) -> None:
    report = review_answer(answer, question=question).report
    assert [each for each in report.findings if each.severity in {"major", "contraindicated"}]
