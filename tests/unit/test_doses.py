"""Doses of an answer held against the largest labelled ones."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medllm.clinical import review_answer
from medllm.clinical.doses.limits import DOSES, build_limits
from medllm.clinical.finding import Finding
from medllm.clinical.rules.files import read_rules
from medllm.clinical.rules.knowledge import shipped_knowledge
from medllm.errors import ConfigError


def report(answer: str, question: str = "", **context: Any) -> tuple[list[Finding], list[str]]:
    found = review_answer(answer, question=question, context=context).report
    doses = [each for each in found.findings if each.kind == "dose"]
    return doses, [each for each in found.not_checked if each.startswith("dose")]


def worst(answer: str, question: str = "", **context: Any) -> str:
    """Severity and drug of the worst finding; empty where there is none."""
    found, _ = report(answer, question, **context)
    return f"{found[0].severity} {found[0].message.split(':')[0]}" if found else ""


@pytest.mark.parametrize(
    "answer",
    [
        "Take paracetamol 1 g every 6 hours.",
        "Take paracetamol 1 g every 4 to 6 hours, max 4 g in 24 hours.",
        "Co-codamol 8/500, 1-2 tablets every 4-6 hours, max 8 tablets in 24 hours.",
        "Do not exceed 4 g of paracetamol per day.",
        "Paracetamol: max 4 g/day.",
        "An overdose of 10 g of paracetamol is toxic.",
        "He took 20 g of paracetamol yesterday.",
        "Paracetamol is toxic above 10 g a day.",
        "Never take methotrexate 10 mg daily.",
        "Methotrexate 10 mg daily can be fatal.",
        "Take methotrexate 15 mg once a week and folic acid 5 mg daily.",
        "Ibuprofen 600 mg three times daily with food.",
        "Fosamax 70 mg once weekly.",
        "Alendronate 10 mg daily.",
        "Rybelsus 7 mg daily.",
        "Clopidogrel 600 mg loading dose then 75 mg daily.",
        "Eliquis 10 mg twice daily for 7 days, followed by 5 mg twice daily.",
        "Azithromycin 500 mg on day 1, then 250 mg daily on days 2-5.",
        "Amiodarone 200 mg TDS for 1 week, then 200 mg BD for 1 week, then 200 mg OD.",
        "Take paracetamol 1 g every 6 hours. So: acetaminophen 1000 mg four times a day.",
        "Start metformin 500 mg daily, increase by 500 mg weekly to a maximum of 2000 mg/day.",
        "Simvastatin lowers cholesterol by 30%; drink 2 g of fibre.",
        "If you have taken 10 g of paracetamol, go to hospital.",
        "Taking methotrexate 15 mg daily instead of weekly has caused deaths.",
        "Rather than taking ibuprofen 800 mg every 4 hours, use 400 mg three times daily.",
        "Is it safe to take ibuprofen 800 mg every 4 hours?",
        "Never give vincristine 2 mg intrathecally.",
        "Atenolol 50 mg, TriCor 145 mg, ibuprofen 600 mg t.i.d., and Lyrica 75 mg.",
        "Actonel every Sunday. 4. Colace. 5. Felbatol 1200 mg b.i.d.",
        "Zorbex 0.2 mg was given IM and Pitocin 40 units IV.",
    ],
)
def test_what_is_right_or_only_told_is_no_finding(answer: str) -> None:
    found, _ = report(answer)

    assert [each.message for each in found if each.severity != "info"] == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Take paracetamol 1 g every 4 to 6 hours.", "major paracetamol"),
        ("Take acetaminophen 1000 mg every 2 hours.", "contraindicated paracetamol"),
        ("Panadol 2000 mg up to four times a day", "contraindicated paracetamol"),
        ("The maximum dose of paracetamol is 8 g per day.", "major paracetamol"),
        (
            "Take Tylenol 1 g four times a day and co-codamol 30/500 two tablets four times a day.",
            "contraindicated paracetamol",
        ),
        ("hydrocodone-acetaminophen 5-500 mg 2 tablets every 4 hours", "major paracetamol"),
        ("Ibuprofen 800 mg every 4 hours.", "major ibuprofen"),
        ("Methotrexate 10 mg daily for rheumatoid arthritis.", "contraindicated methotrexate"),
        ("Methotrexate 2.5 mg tablets: 6 tablets daily", "contraindicated methotrexate"),
        ("Alendronate 70 mg daily.", "contraindicated alendronic acid"),
        ("Start Ozempic 1 mg daily.", "contraindicated semaglutide"),
        ("levothyroxine 100 mg daily", "contraindicated levothyroxine"),
        ("digoxin 125 mg once daily", "contraindicated digoxin"),
        ("fentanyl 100 mg IV", "contraindicated fentanyl"),
        ("vincristine 2 mg intrathecally", "contraindicated vincristine intrathecal"),
        ("Give KCl 20 mEq IV push.", "contraindicated potassium chloride undiluted"),
        ("warfarin 15 mg daily", "moderate warfarin"),
        ("Simvastatin 80 mg at night.", "major simvastatin"),
        ("Oxycodone 10 mg q6h and morphine 10 mg po q4h.", "major opioids"),
        ("Colchicine 1.2 mg every hour.", "contraindicated colchicine"),
        ("Prednisolone 400 mg daily.", "major prednisolone"),
        ("Adrenaline 5 mg IM", "contraindicated epinephrine"),
        ("digoxin 125 mg IV now", "major digoxin"),
        (
            "If paracetamol 1 g four times daily is not enough, add co-codamol 30/500 two tablets "
            "four times daily.",
            "contraindicated paracetamol",
        ),
        ("Take 3 Tylenol 500 mg tablets every 4 hours.", "contraindicated paracetamol"),
        ("You may take 6-8 ibuprofen 200 mg tablets four times daily.", "major ibuprofen"),
        ("Take Dolo 650 mg QID and Crocin 650 mg QID", "major paracetamol"),
        (
            "Paracetamol 1 g IV every 6 hours and oral paracetamol 1 g every 6 hours",
            "contraindicated paracetamol",
        ),
        ("Insulin 10 mg before meals.", "major insulin"),
        ("Vincristine 2 mg IT weekly", "contraindicated vincristine intrathecal"),
        ("Fentanyl patch 100 mg/hour", "contraindicated opioids"),
        ("Take one gram of paracetamol every three hours.", "contraindicated paracetamol"),
        ("You can safely take up to 6 grams of acetaminophen per day.", "major paracetamol"),
        ("Take 2 tablets of Tylenol (500 mg each) every 4 hours.", "major paracetamol"),
        ("Digoxin 0.125 mg daily. Sorry, I meant 12.5 mg daily.", "contraindicated digoxin"),
        ("Digoxin 0.125 mg daily, better 12.5 mg daily.", "contraindicated digoxin"),
        ("Digoxin 0.125 mg daily. No, 12.5 mg daily.", "contraindicated digoxin"),
        ("Take 0.005 kg of paracetamol.", "contraindicated paracetamol"),
    ],
)
def test_what_is_above_the_largest_dose_is_found(answer: str, expected: str) -> None:
    assert worst(answer) == expected


def test_a_finding_names_dose_limit_and_source_and_quotes_its_place() -> None:
    answer = "Rest.\nTake paracetamol 1 g every 2 hours and drink."
    (found,), unknown = report(answer)

    assert found.message == (
        "paracetamol: up to 12000 mg a day is above the largest dose, 4000 mg "
        "(all routes and all products together, body weight 50 kg or more)."
    )
    assert [answer[begin:end] for begin, end in found.spans] == ["1 g every 2 hours"]
    assert found.basis.verified and found.basis.may_block() and unknown == []


def test_a_weekly_drug_given_daily_rests_on_the_regulator() -> None:
    (found,), _ = report("Take methotrexate 10 mg every day.")

    assert found.basis.source_kind == "regulator" and found.basis.may_block()
    assert "given once a day, while it is given once a week" in found.message
    assert worst("Methotrexate 20 mg daily for five days for choriocarcinoma, a cancer.") == ""


@pytest.mark.parametrize(
    ("answer", "context", "expected"),
    [
        ("metformin 1000 mg twice daily", {"egfr": 25}, "contraindicated metformin"),
        ("metformin 1000 mg twice daily", {"egfr": 80}, ""),
        ("citalopram 40 mg daily", {"age": 70}, "contraindicated citalopram"),
        ("citalopram 40 mg daily", {"age": 40, "conditions": ["gout"]}, ""),
        ("citalopram 40 mg daily", {}, "info citalopram"),
        ("simvastatin 40 mg at night", {"medications": ["Cardizem 120 mg"]},
         "major simvastatin"),
        ("tramadol 100 mg four times a day", {"conditions": ["liver cirrhosis"]},
         "contraindicated tramadol"),
        ("enoxaparin 100 mg SC q12h", {"weight_kg": 60}, "major enoxaparin"),
        ("enoxaparin 60 mg SC q12h", {"weight_kg": 60}, ""),
        ("gentamicin 480 mg IV once daily", {"weight_kg": 50}, "major gentamicin"),
        ("gentamicin 480 mg IV once daily", {"weight_kg": 80}, ""),
        ("gentamicin 800 mg IV once daily", {}, "major gentamicin"),
        ("amikacin 2 g IV once daily", {"weight_kg": 150}, "major amikacin"),
        ("heparin 80 units/kg IV, then heparin 18 units/kg/hour", {}, ""),
        ("heparin 180 units/kg/hour IV", {}, "contraindicated heparin"),
        ("dalteparin 18000 units SC once daily", {"weight_kg": 60}, "major dalteparin"),
        ("dalteparin 12000 units SC once daily", {"weight_kg": 60}, ""),
        ("dalteparin 20000 units SC once daily", {"weight_kg": 150}, "major dalteparin"),
        ("dalteparin 25000 units SC once daily", {}, "major dalteparin"),
        ("paracetamol 1 g IV every 6 hours", {"weight_kg": 40}, "major paracetamol"),
        ("carvedilol 50 mg twice daily", {"weight_kg": 70}, "major carvedilol"),
        ("carvedilol 50 mg twice daily", {"weight_kg": 90}, ""),
        ("paracetamol 1 g four times a day", {"medications": ["co-codamol 30/500 2 tabs QDS"]},
         "contraindicated paracetamol"),
        ("paracetamol 1 g four times a day", {"medications": ["Tylenol 1 g QID"]}, ""),
        ("paracetamol 0 mg every hour", {"medications": ["Tylenol 1 g QID"]}, ""),
    ],
)  # fmt: skip
def test_limits_of_a_group_count_for_patients_known_to_be_of_it(
    answer: str, context: dict[str, Any], expected: str
) -> None:
    assert worst(answer, **context) == expected


@pytest.mark.parametrize(
    ("answer", "question", "context"),
    [
        ("paracetamol {} g every 4 hours", "", {"age": 9}),
        ("paracetamol {} g every 4 hours", "What dose for my 4-year-old son?", {}),
        ("For a child, give paracetamol {} g every 4 hours.", "", {}),
        ("Infants: paracetamol {} g every 4 hours", "", {"age": 40}),
        ("In children aged 6 to 12, paracetamol {} g every 4 hours", "", {}),
        ("Give a 6 year old paracetamol {} g every 4 hours", "", {}),
    ],
)
def test_a_dose_for_a_child_is_held_against_what_an_adult_takes_at_once(
    answer: str, question: str, context: dict[str, Any]
) -> None:
    """1 g every 4 hours is too much in a day even of an adult, which nobody checks for a child."""
    (found, unknown), (above, _) = (
        report(answer.format(grams), question, **context) for grams in (1, 2)
    )

    assert found == [] and unknown == ["dose: paracetamol: a dose for a child"]
    assert [each.severity for each in above] == ["major"]


def test_ten_times_a_limit_per_kg_is_found_whatever_the_weight() -> None:
    assert worst("paracetamol 15 mg/kg every 6 hours") == ""
    assert worst("paracetamol 150 mg/kg every 6 hours") == "major paracetamol"


def test_a_time_before_the_name_hides_no_dose() -> None:
    answer = "Within 4.5 hours of stroke onset alteplase is given at {} mg/kg."

    assert worst(answer.format(9)) == "contraindicated alteplase"
    assert worst(answer.format(0.9)) == ""
    assert worst("Give 40 mmol of potassium chloride over 4 hours") == ""


def test_a_dose_that_equals_another_is_not_added_to_it() -> None:
    assert worst("A 25 mcg/h fentanyl patch is about equal to 60 mg of oral morphine a day.") == ""


def test_a_route_that_kills_is_found_for_a_child_too() -> None:
    assert worst("vincristine 1 mg intrathecally", age=6) == (
        "contraindicated vincristine intrathecal"
    )


def test_words_of_children_that_mean_nobody_hide_no_overdose() -> None:
    too_much = "Take paracetamol 2 g every 4 hours."
    befores = [
        "Keep out of the reach of children. ",
        "Child-Pugh A. ",
        "A 45-year-old man. ",
        "Children: ask a doctor. Adults: ",
        "Adults and children over 12: ",
    ]
    for before in befores:
        assert worst(before + too_much) == "contraindicated paracetamol"


def test_what_no_row_covers_is_said_not_checked() -> None:
    assert report("fusidic acid 1 g IV daily") == ([], ["dose: fusidic acid: no limit is known"])
    assert report("furosemide 80 mg PR daily")[1] == ["dose: furosemide, rectal: no limit is known"]
    assert report("enoxaparin 60 mg SC q12h")[1] == [
        "dose: enoxaparin, sc: the limit is per kg, and the weight is not known"
    ]
    assert report("Take 2 tablets of Percocet every 4 hours")[1] == [
        "dose: oxycodone and paracetamol: the part of each is not stated"
    ]
    assert report("Warfarin needs regular checks.") == ([], [])
    assert report("Tab Thyronorm 50 OD") == ([], ["dose: levothyroxine: no unit stated"])
    assert report("INR 2,5. Warfarin 1.200 mg und 2,5 mg.")[1] == [
        "dose: warfarin: two readings: 1200 or 1.2"
    ]


ALIKE = [
    ("Take paracetamol 2 g every 4 hours.", "Take Tylenol 2 g every 4 hours."),
    ("Take paracetamol 2 g every 4 hours.", "TAKE ACETAMINOPHEN 2000 MG EVERY 4 HOURS."),
    ("levothyroxine 500 mcg daily", "levothyroxine 0.5 mg daily"),
    ("levothyroxine 500 mcg daily", "Synthroid\u00a0500\u2009µg\nonce daily"),
    ("levothyroxine 500 mcg daily", "levothyroxine 500 μg q24h"),
    ("warfarin 15 mg once daily", "Coumadin 15mg OD"),
    ("metformin 2 g three times daily", "Glucophage 2,000 mg t.i.d."),
    ("ibuprofen 800 mg every 4 hours", "Advil 800 mg q4h"),
    ("methotrexate 10 mg daily", "MTX 10 mg 1-0-0"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_another_way_of_writing_is_the_same_finding(one: str, other: str) -> None:
    def meaning(answer: str) -> list[tuple[str, str]]:
        return [(each.rule, each.severity) for each in report(answer)[0]]

    assert meaning(one) == meaning(other) != []


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 60), st.sampled_from(["paracetamol", "Tylenol", "acetaminophen"]))
def test_grams_and_milligrams_are_judged_alike(tenths: int, name: str) -> None:
    grams = worst(f"Take {name} {tenths / 10:g} g every 6 hours.")

    assert grams == worst(f"Take {name} {tenths * 100} mg every 6 hours.")
    assert bool(grams) == (tenths > 10)


def test_the_table_has_the_largest_doses_of_many_drugs_each_with_a_source() -> None:
    knowledge = shipped_knowledge()
    limits = knowledge.built(build_limits)

    assert sum(any(e.single or e.daily or e.weekly for e in each) for each in limits.values()) > 500
    for rows in limits.values():
        for each in rows:
            if each.single and each.daily and each.single.unit == each.daily.unit:
                is_rarer = each.single.value > each.daily.value
                assert not is_rarer or each.weekly or "note" in each.row, each.row["id"]


def dose_sentences() -> dict[str, list[str]]:
    """The sentences of `dose_sentences.txt` by drug, each with its mark."""
    found: dict[str, list[str]] = {}
    for line in Path(__file__).with_name("dose_sentences.txt").read_text().splitlines()[1:]:
        if line.startswith("# "):
            sentences = found[line[2:]] = []
        elif line:
            sentences.append(line)
    return found


@pytest.mark.parametrize(("drug", "sentences"), dose_sentences().items())
def test_usual_and_largest_doses_are_silent_and_ten_times_as_much_is_found(
    drug: str, sentences: list[str]
) -> None:
    assert {each[0] for each in sentences} == {"=", "!"}
    for each in sentences:
        found, _ = report(each[2:])
        told = [one.message for one in found if one.severity != "info"]
        assert (each[0] == "!") == bool(told), each
        assert all(one.startswith(drug) for one in told)


def test_a_hospital_may_set_a_lower_ceiling(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "sources: {H: {title: Our formulary, kind: guideline}}\n"
        "doses:\n- {id: own.paracetamol, drug: paracetamol, when: our formulary, daily: 3000 mg, "
        "limit: ceiling, source: H, verified: true}\n"
    )
    own = read_rules(tmp_path, (DOSES,), shipped_knowledge())

    (found,) = review_answer("paracetamol 1 g every 6 hours", knowledge=own).report.findings

    assert (found.rule, found.severity) == ("own.paracetamol", "major")


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("drug: warfrin, daily: 5 mg", "unknown drug 'warfrin'"),
        ("drug: warfarin, daily: five", "daily must be a dose such as"),
        ("drug: warfarin, daily: 5 mg, routes: oral", "routes must be a list"),
        ("drug: warfarin, daily: 5 mg, limit: soft", "limit must be one of caution, ceiling"),
        ("drug: warfarin, daily: '1 mg/kg, at most 5 g/kg'", "daily must be a dose such as"),
        ("drug: warfarin", "no dose: give single"),
    ],
)
def test_a_wrong_row_is_named(row: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "sources: {L: {title: A label, kind: label}}\n"
        f"doses:\n- {{id: own, when: ever, source: L, verified: true, {row}}}\n"
    )

    with pytest.raises(ConfigError, match=fault):
        read_rules(tmp_path, (DOSES,), shipped_knowledge())


def test_the_route_is_read_from_a_brand() -> None:
    assert worst("Give Diastat 20 mg once for the seizure.") == ""
    assert worst("She takes valproate. Medications include Diastat 20 mg; Topamax 25 mg.") == ""
    assert worst("Give diazepam 20 mg by mouth three times a day.").endswith("diazepam")


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Metformin 10 000 mg daily.", "contraindicated metformin"),
        ("Metformin 10\u202f000 mg daily.", "contraindicated metformin"),
        ("Metformin 15 000 000 micrograms daily.", "contraindicated metformin"),
        ("Paracetamol 1 000 mg every hour.", "contraindicated paracetamol"),
        ("Metformin 5 grammes twice a day.", "contraindicated metformin"),
        ("Levothyroxine 1000 microgrammes daily.", "major levothyroxine"),
        ("A quarter of a gram of digoxin daily.", "contraindicated digoxin"),
        ("Digoxin half of a gram daily.", "contraindicated digoxin"),
        ("Insulin glargine 4 thousand units daily.", "contraindicated insulin"),
        ("Metformin 5k mg daily.", "major metformin"),
        ("Ibuprofen 800 mg x 20 per day.", "contraindicated ibuprofen"),
        ("Take ten 500-mg tablets of metformin with each meal.", "contraindicated metformin"),
        ("A tablespoon of paracetamol 250 mg/5 mL every hour.", "contraindicated paracetamol"),
        ("Paracetamol 250 mg/5 mL, a teaspoon every 6 hours.", ""),
        ("A teaspoon of honey and paracetamol 500 mg twice a day.", ""),
        ("Paracetamol 1 000 mg four times a day.", ""),
        ("Paracetamol 2 500 mg tablets four times a day.", ""),
        ("Levothyroxine 100 microgrammes daily.", ""),
    ],
)
def test_doses_in_other_forms_are_read(answer: str, found: str) -> None:
    assert worst(answer) == found


def test_a_dose_per_pound_is_one_per_kilogram() -> None:
    assert worst("Enoxaparin 10 mg/lb twice daily.", weight_kg=80) == "contraindicated enoxaparin"
    assert worst("Enoxaparin 0.45 mg/lb twice daily.", weight_kg=80) == ""


@pytest.mark.parametrize(
    ("answer", "readings"),
    [
        ("Ibuprofen 6.000 mg daily.", "6 or 6000"),
        ("Levothyroxine 1.000 mcg daily.", "1 or 1000"),
        ("Paracetamol 2 500 mg four times a day.", "500 or 2500"),
    ],
)
def test_a_number_with_two_readings_is_named(answer: str, readings: str) -> None:
    assert any(each.endswith(f"two readings: {readings}") for each in report(answer)[1])


@pytest.mark.parametrize(
    ("answer", "is_too_much"),
    [
        ("Ramipril 10 mg at breakfast\nRamipril 10 mg at lunch\nRamipril 10 mg at dinner", 1),
        ("Zoloft 200 mg in the morning, then Zoloft 200 mg at bedtime.", 1),
        ("Metformin 1000 mg in the morning. Metformin 1000 mg in the evening.", 0),
        ("Sertraline 100 mg in the morning or sertraline 200 mg at bedtime.", 0),
        ("Take sertraline 150 mg in the morning, or take sertraline 150 mg at night instead.", 0),
        ("Take a gram of paracetamol every hour.", 1),
        ("Take a gram of paracetamol four times a day.", 0),
        ("You will have 21 grams of amoxicillin in total, at 1 g three times daily.", 0),
        ("Take 10 g of amoxicillin in total a day.", 1),
    ],
)
def test_doses_of_several_times_of_a_day_are_added_up(answer: str, is_too_much: int) -> None:
    found, _ = report(answer)
    assert bool([each for each in found if each.severity != "info"]) == bool(is_too_much)
