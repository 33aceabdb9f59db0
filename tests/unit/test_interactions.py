from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medllm.clinical import review_answer
from medllm.clinical.finding import Finding
from medllm.clinical.rules.knowledge import shipped_knowledge

KINDS = {"interaction", "same ingredient"}


def findings(answer: str, **about: Any) -> list[Finding]:
    report = review_answer(answer, **about).report
    return [each for each in report.findings if each.kind in KINDS]


def found(answer: str, **about: Any) -> list[tuple[str, str]]:
    return [(each.severity, each.rule) for each in findings(answer, **about)]


PAIRS = [
    ("warfarin", "ibuprofen"), ("Coumadin", "Advil"), ("sildenafil", "nitroglycerin"),
    ("Viagra", "Imdur"), ("phenelzine", "fluoxetine"), ("Nardil", "Prozac"),
    ("Zocor", "Biaxin"), ("simvastatin", "clarithromycin"), ("colchicine", "ketoconazole"),
    ("MTX", "SMX-TMP"), ("methotrexate", "co-trimoxazole"), ("oxycodone", "alprazolam"),
    ("lithium", "hydrochlorothiazide"), ("tizanidine", "ciprofloxacin"),
    ("azathioprine", "allopurinol"), ("digoxin", "amiodarone"), ("ritonavir", "rifampin"),
]  # fmt: skip
ADVICE = [
    "Take {a} 5 mg daily and {b} 10 mg twice daily.",
    "Start {a} and add {b}.",
    "You can take {a} with {b}.",
    "It is safe to take {a} together with {b}.",
    "{a} and {b} can be taken together.",
    "Regimen: {a} + {b}",
    "Continue {a}. Start {b} tomorrow.",
    "Add {b} to the current {a}.",
    "Patient on {a}: start {b}.",
    "Take {b}, along with your {a}.",
    "Since you are taking {a}, {b} 10 mg daily is a good choice.",
    "If you are on {a}, take {b} for the pain.",
    "Medications:\n- {a} 5 mg daily\n- {b} 10 mg daily",
    "| Drug | Dose |\n|---|---|\n| {a} | 5 mg daily |\n| {b} | 10 mg daily |",
    "Plan: 1. {a} 5 mg PO daily 2. {b} 10 mg PO BID",
    "{b} should be added to {a}.",
    "We will give {a} 5 mg, then {b} 10 mg.",
    "I recommend adding {b} to your {a}.",
    "Prescribe {a}, {b} and a glass of water.",
]
WARNING = [
    "Do not take {a} with {b}.", "Avoid {b} while you take {a}.",
    "{a} and {b} must not be taken together.", "Never combine {a} with {b}.",
    "{b} is contraindicated with {a}.", "Taking {a} with {b} may be dangerous.",
    "{a} interacts with {b}.", "Stop {a} and start {b}.", "Switch from {a} to {b}.",
    "Use {b} instead of {a}.", "If you take {a}, tell your doctor before you use {b}.",
    "Can I take {a} with {b}?", "Studies of {a} with {b} are under way.",
    "{a} or {b} may be mentioned.", "The patient is allergic to {a} and to {b}.",
]  # fmt: skip


@pytest.mark.parametrize("advice", ADVICE)
def test_advice_to_take_two_drugs_that_interact_is_found(advice: str) -> None:
    missed = [pair for pair in PAIRS if not found(advice.format(a=pair[0], b=pair[1]))]

    assert missed == []


@pytest.mark.parametrize("warning", WARNING)
def test_a_warning_a_question_or_a_mere_mention_is_no_finding(warning: str) -> None:
    wrong = [pair for pair in PAIRS if found(warning.format(a=pair[0], b=pair[1]))]

    assert wrong == []


def test_more_forms_of_advice_fire_and_of_warnings_do_not() -> None:
    lines = (Path(__file__).parent / "interaction_sentences.txt").read_text().splitlines()
    wrong = [
        (line, pair)
        for line in lines
        for pair in [("warfarin", "ibuprofen"), ("Nardil", "Prozac"), ("Zocor", "Biaxin")]
        if line[0] in "+-"
        and bool(found(line[2:].format(a=pair[0], b=pair[1]))) != (line[0] == "+")
    ]

    assert wrong == []


def test_a_finding_says_what_why_and_where() -> None:
    answer = "Keep taking Coumadin 5 mg. For the pain use Advil 400 mg."

    (one,) = findings(answer)

    assert one.message == "Ibuprofen and warfarin should usually not be combined: bleeding."
    assert (one.severity, one.basis.verified, one.basis.year) == ("major", True, 2017)
    assert [answer[slice(*span)] for span in one.spans] == ["Coumadin", "Advil"]


@pytest.mark.parametrize("other", ["cyclobenzaprine", "methocarbamol"])
@pytest.mark.parametrize("drug", ["codeine", "gabapentin", "hydrocodone", "oxycodone"])
def test_of_two_classes_that_a_rule_names_one_that_was_read_counts(drug: str, other: str) -> None:
    (one,) = findings(f"Take {drug} with {other}.")

    assert one.basis.verified


def test_advice_is_held_against_the_medications_and_the_question() -> None:
    medications = {"medications": ["Coumadin 5 mg daily", "iron"]}

    assert found("Take Advil 400 mg.", context=medications)
    assert found("Take Advil 400 mg.", question="I take warfarin. What helps against pain?")
    assert not found("Take Advil 400 mg.", question="Is warfarin a blood thinner?")
    assert not found("Stop your warfarin and take ibuprofen.", context=medications)
    assert not found("Warfarin is old.", context=medications)
    both = {"medications": ["sildenafil 50 mg", "Nitrostat"]}
    assert not found("Drink enough water.", context=both)
    assert found("Continue all your current medications.", context=both)


def test_a_yes_to_a_question_about_two_drugs_is_advice() -> None:
    asked = "Can I take ibuprofen with warfarin?"

    assert [rule for _, rule in found("Yes, that is fine.", question=asked)] == [
        "interaction.warfarin.nsaid"
    ]
    (one,) = findings("Yes, that is fine.", question=asked)
    assert one.where == "question"
    assert [asked[slice(*span)] for span in one.spans] == ["ibuprofen", "warfarin"]
    assert not found("No, that is dangerous.", question=asked)
    assert not found("Yes, but do not take ibuprofen with it.", question=asked)
    assert not found("Yes.", question="Does ibuprofen interact with warfarin? Can it harm?")
    assert not found("Yes.", question="Can I take ibuprofen or naproxen?")


def test_what_a_rule_asks_for_besides_is_respected_or_said() -> None:
    assert found("Take simvastatin 40 mg with verapamil.")
    assert not found("Take simvastatin 10 mg nightly with verapamil.")
    (one,) = findings("Take simvastatin with verapamil.")
    assert ", if simvastatin is over 10 mg a day: " in one.message
    advice = "Take colchicine with clarithromycin."
    assert [each for each, _ in found(advice)] == ["major"]
    assert [each for each, _ in found(advice, context={"egfr": 30})] == ["contraindicated"]
    two, three = "Take naproxen and lisinopril", ", and furosemide 20 mg"
    assert not found(two)
    assert [rule for _, rule in found(two + three)][:1] == ["interaction.nsaid.ace-inhibitor"]


def test_pairs_that_must_not_interrupt_never_do() -> None:
    for pair in [
        ("atenolol", "sertraline"), ("ramipril", "aspirin"), ("warfarin", "omeprazole"),
        ("levothyroxine", "calcium carbonate"), ("methotrexate", "folic acid"),
        ("Plavix", "aspirin"), ("lisinopril", "hydrochlorothiazide"), ("apixaban", "paracetamol"),
        ("tacrolimus", "prednisone"), ("metoprolol", "amlodipine"), ("lisinopril", "ibuprofen"),
    ]:  # fmt: skip
        assert not found(f"Take {pair[0]} and {pair[1]} daily."), pair
    assert not found("Take warfarin 5 mg daily and Tylenol 500 mg daily.")
    assert found("Take warfarin 5 mg daily and Tylenol 1000 mg four times a day.") == [
        ("minor", "interaction.warfarin.paracetamol")
    ]


def test_a_graver_rule_wins_over_a_pair_of_classes_that_must_not_interrupt() -> None:
    assert found("Take sotalol and citalopram.") == [
        ("contraindicated", "interaction.qt-known-risk-drug.qt-known-risk-drug")
    ]


def test_alternatives_are_not_taken_together() -> None:
    assert not found("Take ibuprofen or naproxen.")
    assert not found("Take an NSAID such as ibuprofen, naproxen.")
    assert not found("Take ibuprofen 400 mg.\n\nAlternatively, take naproxen 250 mg.")
    assert not found("Options include:\n- sertraline 50 mg daily\n- fluoxetine 20 mg daily")
    assert found("Take ibuprofen and naproxen.") == [("major", "interaction.nsaid.nsaid")]


def test_the_same_ingredient_in_two_products_is_found() -> None:
    assert found("Take Tylenol 500 mg and Percocet as needed.") == [
        ("major", "duplicate.paracetamol")
    ]
    assert found("Take Tylenol.", context={"medications": ["Norco 5/325"]})
    assert found("Take Coumadin and warfarin.") == [("moderate", "duplicate.any")]
    assert not found("Take Percocet (oxycodone/acetaminophen) every 6 hours.")
    assert not found("Take Tylenol (acetaminophen) 500 mg.")
    assert not found("Continue warfarin 5 mg.", context={"medications": ["Coumadin 5 mg"]})


def test_no_product_is_two_drugs_of_somebody_who_takes_it() -> None:
    """ "Continue Entresto" combined its two ingredients, where it was on the list."""
    for row in shipped_knowledge().rows("products"):
        case = {"age": 50, "sex": "male", "medications": [row["id"]]}
        found = review_answer(f"Continue {row['id']}.", context=case).report.findings
        assert not [each for each in found if each.kind in {"interaction", "same ingredient"}], row

    both = review_answer("Continue Entresto.", context={"medications": ["Entresto", "valsartan"]})
    assert {each.kind for each in both.report.findings} >= {"interaction", "same ingredient"}


def test_known_drugs_in_no_rule_are_not_checked_and_never_safe() -> None:
    report = review_answer("Take abacavir, imiglucerase and warfarin.").report

    (line,) = [each for each in report.not_checked if each.startswith("interaction")]
    assert line == "interaction: abacavir, imiglucerase, warfarin together, beyond the rules"


def test_a_topical_form_is_no_use_of_the_drug() -> None:
    assert not found("Take warfarin and apply diclofenac gel.")


FORMS = st.sampled_from([str, str.upper, str.title, lambda t: t.replace(" ", "\n"),
                         lambda t: t.replace(" ", "\u00a0")])  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(pair=st.sampled_from(PAIRS), advice=st.sampled_from(ADVICE[:6]), form=FORMS)
def test_the_form_of_a_text_changes_no_finding(pair: Any, advice: str, form: Any) -> None:
    text = advice.format(a=pair[0], b=pair[1])

    assert found(form(text)) == found(text) != []


PARTS = (
    *("take", "warfarin", "ibuprofen", "or", "and", ",", "(", ")", "/", ".", "\n", "-", ":"),
    *("5", "mg", "not", "Tylenol", "SSRI", "with", "if", "you", "are", "on", "?"),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=30))
def test_no_text_crashes_it_and_spans_lie_in_the_text(parts: list[str]) -> None:
    text = " ".join(parts)

    for answer in (text, f"Yes. {text}", f"Keep taking your medicines. {text}"):
        findings(answer, question=f"Can I? {text}", context={"medications": [text, "Tylenol"]})
    for each in findings(text, context={"medications": [text]}):
        assert all(0 <= begin < end <= len(text) for begin, end in each.spans)


@pytest.mark.parametrize(
    ("answer", "severities"),
    [
        ("Conscious sedation with fentanyl 50 mcg and midazolam 2 mg IV was given.", {"info"}),
        ("Take oxycodone 5 mg every 6 hours and midazolam 2 mg at night.", {"major"}),
        ("Take oxycodone 5 mg and alprazolam 0.5 mg. This may cause sedation.", {"major"}),
        ("Tell the team before anesthesia. Take oxycodone 5 mg and diazepam 5 mg.", {"major"}),
        ("Take apixaban 5 mg and rivaroxaban 20 mg as a bridge.", {"major"}),
        ("Give enoxaparin 40 mg daily until the INR is 2, and warfarin 5 mg daily.", {"minor"}),
        ("Give enoxaparin 40 mg daily and warfarin 5 mg daily.", {"major"}),
    ],
)
def test_words_beside_a_pair_ease_it(answer: str, severities: set[str]) -> None:
    assert {severity for severity, _ in found(answer)} == severities


@pytest.mark.parametrize(
    "answer",
    [
        "Take oxycodone 5 mg every 6 hours. The patient does not smoke nor drink alcohol.",
        "Use azithromycin ophthalmic and erythromycin ophthalmic.",
        "Use moxifloxacin eye drops and take sotalol 80 mg twice daily.",
        "Take fluticasone 100 mcg twice daily and aspirin 81 mg daily.",
        "Continue estradiol 1 mg daily and Prometrium. Iron deficiency is treated with oral iron.",
        "We will start amiodarone 150 mg. We follow her liver while she is taking amiodarone.",
        "She is on Mavik 2 mg daily plus verapamil; she could switch over to Tarka.",
    ],
)
def test_what_is_not_taken_together_is_no_finding(answer: str) -> None:
    assert [each for each in found(answer) if each[0] != "minor"] == []


@pytest.mark.parametrize(
    "answer",
    [
        "Use timolol eye drops and take verapamil 80 mg daily.",
        "Use miconazole gel and continue warfarin 5 mg daily.",
        "Take fluticasone 100 mcg twice daily and ritonavir 100 mg daily.",
        "Take Toprol-XL 50 mg daily. Also take Lopressor 25 mg twice daily.",
        "Take sildenafil 50 mg and apply nitroglycerin ointment twice a day.",
        "Use fentanyl nasal spray 100 mcg and take lorazepam 1 mg at night.",
        "Your dose has changed: take Percocet and also Tylenol 500 mg.",
        "Switch to Percocet and add Tylenol 1 g at night.",
        "Give infant Tylenol drops and Calpol syrup.",
        "You take metoprolol 50 mg daily. Start metoprolol succinate 100 mg daily.",
    ],
)
def test_what_is_absorbed_all_the_same_is_found(answer: str) -> None:
    assert found(answer)


def test_insulins_and_local_steroids_are_a_thought_not_an_alarm() -> None:
    assert found("Take NovoLog 20 units with meals and Lantus 30 units at night.") == [
        ("info", "duplicate.insulin")
    ]
    assert found("Use Advair twice daily and Flonase once daily.") == [
        ("info", "duplicate.fluticasone")
    ]
