from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medllm.clinical import review_answer
from medllm.clinical.finding import Finding
from medllm.clinical.policy import Policy
from medllm.clinical.red_flags.patterns import Vocabulary, content_of, stem
from medllm.clinical.rules.knowledge import shipped_knowledge
from medllm.clinical.text.reading import read

HERE = Path(__file__).parent
STROKE = "My mum's mouth is drooping and her speech is slurred"
CALL = "Call an ambulance at once."


def found(question: str, answer: str = CALL, **policy: object) -> list[Finding]:
    report = review_answer(answer, question=question, policy=Policy(**policy)).report  # type: ignore[arg-type]
    return [each for each in report.findings if each.kind in {"red flag", "missing"}]


def described(question: str) -> list[str]:
    return [each.rule for each in found(question) if each.where == "question"]


def test_families_are_found_in_questions_written_apart_from_the_patterns() -> None:
    """Two for each family, written before the first measurement: it found 118 of 123, 18 of 32."""
    lines = (HERE / "red_flag_questions.tsv").read_text().splitlines()
    asked = [line.split("\t") for line in lines]

    hits = [f"red_flag.{family}" in described(question) for family, question in asked]
    families = {row["id"] for row in shipped_knowledge().rows("red_flags")}

    assert {f"red_flag.{family}" for family, _ in asked} == families - {"red_flag.unconscious"}
    assert sum(hits) >= 153 and len(hits) == 157


def test_emergencies_as_people_type_them_and_ordinary_sentences() -> None:
    """At first 64 of 90 and 66 of the last 80 emergencies were found (docs/clinical.md)."""
    typed = (HERE / "typed_emergencies.tsv").read_text().splitlines()
    ordinary = (HERE / "typed_ordinary.txt").read_text().splitlines()

    missed = []
    for family, question in (line.split("\t") for line in typed):
        families = described(question)
        if not families or (family != "any" and f"red_flag.{family}" not in families):
            missed.append(question)
    flagged = [question for question in ordinary if described(question)]

    assert len(missed) <= 4 and len(typed) == 478
    assert len(flagged) <= 14 and len(ordinary) == 483


def test_ordinary_questions_are_no_emergency() -> None:
    asked = (HERE / "ordinary_questions.txt").read_text().splitlines()

    assert [question for question in asked if described(question)] == []


@pytest.mark.parametrize(
    ("family", "question"),
    [
        ("sepsis_child", "my baby is floppy and wont wake"),
        ("sepsis_child", "my 2 week old is really floppy and not feeding"),
        ("sepsis_child", "newborn wont feed and is hard to wake"),
        ("sepsis_child", "my 3 week old has gone all blotchy and wont take her bottle"),
        ("sepsis_child", "baby went blue round the mouth and limp"),
        ("sepsis_child", "my 2 month old cant be woken and isnt feeding"),
        ("sepsis_child", "my 10 month old is burning up and limp"),
        ("sepsis_child", "6 day old wont latch and is really floppy"),
        ("sepsis_child", "bubba is grey and grunting"),
        ("sepsis_child", "cant get the baby to wake up"),
        ("sepsis_child", "baby doesnt respond when i touch her"),
        ("meningitis", "his temp is 41 and neck is stiff"),
        ("meningitis", "shes burning up and cant bend her neck"),
        ("meningitis", "fever and cant put her chin on her chest light hurts her eyes"),
        ("meningitis", "a temperature and a rash that doesnt go away when i press a glass on it"),
        ("meningitis", "purple marks on her legs that dont fade and shes hot"),
        ("stroke", "hubby cant move his right arm and his words are all jumbled"),
        ("acute_coronary_syndrome", "mum has pain in her chest going down her arm, shes gone grey"),
        ("severe_asthma", "my toddler isnt breathing properly and his ribs are sucking in"),
        ("seizure", "shes gone stiff and jerking and it wont stop"),
        ("overdose", "i took the whole packet of paracetamol and dont want to be here"),
        ("anaphylaxis", "my lips are swelling up, my throat feels tight after eating prawns"),
        ("cauda_equina", "grandad cant pee and his legs have gone numb"),
        ("reduced_fetal_movements", "i cant feel my baby moving and im 34 weeks"),
        ("button_battery", "my son swallowed a little battery from the remote"),
        ("subarachnoid_haemorrhage", "worst headache ever came on like a bang and im being sick"),
        ("head_injury", "hes fallen off a ladder and isnt waking up"),
        ("head_injury", "my lad came off his bike no helmet and hes talking rubbish"),
        ("unconscious", "cant wake my flatmate up"),
        ("unconscious", "mum collapsed in the kitchen and shes not coming round"),
        ("unconscious", "he is not responding to me at all"),
        ("unconscious", "my nana is lying on the floor and wont open her eyes"),
        ("unconscious", "grandpa is unconcious pls help"),
        ("cardiac_arrest", "he isnt breathing"),
        ("anaphylaxis", "my tounge is swelling up"),
        ("seizure", "she had a siezure for 6 mins"),
        ("choking", "baby is choking on a grape"),
        ("stroke", "mums face has gone all droopy on one side"),
        ("burn", "pan of boiling water went over my toddler"),
        ("suicidal_intent", "i cant do this anymore i want to end it"),
        ("bleeding_in_pregnancy", "im 20 weeks pregnant and bleeding loads"),
        ("poison", "farmer consumed pesticide"),
        ("carbon_monoxide", "theyre both sick and dizzy and the co alarm went off"),
    ],
)
def test_emergencies_are_found_as_they_are_typed(family: str, question: str) -> None:
    assert f"red_flag.{family}" in described(question)


@pytest.mark.parametrize(
    "question",
    [
        "My baby won't sleep unless I hold him, is that normal?",
        "I woke up with a stiff neck after sleeping on a new pillow, what helps?",
        "How do I read an old floppy disk?",
        "He won't wake up early for school, any tips?",
        "my toddler wont eat his vegetables what can i do",
        "My baby has blue eyes, will they change colour?",
        "How long does the rash from the measles jab last in babies?",
        "Is a baby's floppy neck normal at birth?",
        "My newborn gets sleepy while feeding, how do I keep her awake?",
        "baby isnt floppy and is feeding well, no fever",
        "my 4 month old refuses the bottle since I went back to work",
        "I dont have a fever but my neck is stiff",
        "My stretch marks won't fade, what cream helps?",
        "The hiccups wont stop",
        "my neck is stiff and hurts when i turn it",
        "my hands go mottled when its cold outside",
        "room temp is 19 is that ok for a newborn",
        "bath is 38 degrees, fine for a newborn?",
        "the baby monitor won't wake me at night",
        "my newborn sleeps so well he wont wake me at night",
        "my son doesnt wake for the toilet at night and wets the bed",
        "she is not responding to her antibiotics, rash is the same",
        "my gp is not responding to my emails",
        "my husband stops breathing in his sleep, is that apnoea?",
        "which drugs cause mottled skin",
        "he was unconscious for a minute when he was 10, now 30 and well",
        "is unconscious bias training useful for nurses",
        "hes choking up when he talks about his dog",
    ],
)
def test_ordinary_questions_in_their_words_are_none(question: str) -> None:
    assert described(question) == []


@pytest.mark.parametrize("typed", ["shouldn't", "shouldnt", "mustnt", "dont"])
def test_a_warning_typed_without_its_apostrophe_is_none(typed: str) -> None:
    findings = found("My toddler drank bleach", f"Call 999. You {typed} make him vomit.")

    assert [each for each in findings if each.where == "answer"] == []


@pytest.mark.parametrize(
    "question",
    [
        "I have a cough but no chest pain spreading to the arm.",
        "He denies crushing chest pain, sweating or pain in the jaw.",
        "I don't have crushing chest pain or a heavy left arm.",
        "My father died of crushing chest pain in 1990.",
        "When I was little my face drooped on one side and my speech was slurred.",
    ],
)
def test_what_is_denied_or_long_past_is_none(question: str) -> None:
    assert described(question) == []


@pytest.mark.parametrize(
    "question",
    [
        STROKE.upper(),
        STROKE.replace(" ", "\n"),
        STROKE.replace("'", "\u2019"),
        "Her speech is slurred and the mouth of my mum droops",
        "mouth drooped, slurring her speech",
        "No rash, but her mouth is drooping and her speech is slurred",
    ],
)
def test_the_form_of_words_does_not_matter(question: str) -> None:
    assert "red_flag.stroke" in described(question)


def test_a_good_answer_has_a_note_alone() -> None:
    findings = found(STROKE)

    assert {(each.kind, each.severity, each.where) for each in findings} == {
        ("red flag", "info", "question")
    }
    (first, *_) = findings
    quoted = [STROKE[begin:end] for begin, end in first.spans]
    assert "drooping" in " ".join(quoted) or "slurred" in " ".join(quoted)


@pytest.mark.parametrize(
    "answer",
    [
        "Rest and drink water.",
        "There is no need to call an ambulance.",
        "If it gets worse, go to the emergency department.",
        "Go to A&E tomorrow.",
        "",
    ],
)
def test_an_answer_that_does_not_say_to_get_help_lacks_it(answer: str) -> None:
    lacking = [each for each in found(STROKE, answer) if each.kind == "missing"]

    assert [each.severity for each in lacking] == ["major"]
    assert "does not say to get emergency help" in lacking[0].message


@pytest.mark.parametrize(
    "answer",
    [
        "Call 999 now.",
        "Please call 911 immediately, and note the time.",
        "Take her to A&E straight away.",
        "These are signs of a stroke: get immediate medical attention.",
        "Ring 112. Do not wait.",
    ],
)
def test_each_way_to_say_it_counts(answer: str) -> None:
    assert [each for each in found(STROKE, answer) if each.kind == "missing"] == []


def test_help_may_be_left_to_worsening_where_the_source_does() -> None:
    question = "my blue inhaler is not helping and I am wheezing"
    puffs = "Sit up, take up to 10 puffs, and call 999 if it does not get better."

    assert [each for each in found(question, puffs) if each.kind == "missing"] == []
    assert [each.kind for each in found(STROKE, "Call 999 if it does not get better.")].count(
        "missing"
    )


def test_wrong_advice_is_worst_and_its_warning_is_none() -> None:
    wrong = [each for each in found(STROKE, "Let her sleep it off.") if each.where == "answer"]

    assert ("red flag", "contraindicated") in {(each.kind, each.severity) for each in wrong}
    assert not any(each.basis.verified for each in wrong if each.kind == "red flag")
    warned = found(STROKE, "Call 999. Do not wait and see, and never let her sleep it off.")
    assert [each for each in warned if each.where == "answer"] == []


def test_what_was_read_in_the_source_may_block() -> None:
    question, answer = "My toddler drank bleach", "Call 999, and make him vomit."

    blocked = review_answer(answer, question=question, policy=Policy(action="block", region="us"))

    assert blocked.report.is_blocked and blocked.report.risk_level == 3
    assert blocked.text.startswith("This may be poisoning. Call Poison Control (1-800-222-1222)")
    assert "vomit." not in blocked.text.split("withheld")[1]


@pytest.mark.parametrize(
    ("region", "number"), [("us", "911"), ("uk", "999"), ("in", "112"), ("eu", "112")]
)
def test_a_region_sets_the_number_and_none_has_none(region: str, number: str) -> None:
    report = review_answer("Rest.", question=STROKE, policy=Policy(region=region)).report  # type: ignore[arg-type]
    plain = review_answer("Rest.", question=STROKE, policy=Policy()).report

    assert f"Call {number} at once" in report.escalations[0]
    assert not any(each.isdigit() for each in "".join(plain.escalations))


@pytest.mark.parametrize(
    ("question", "family"),
    [
        ("my baby is 5 weeks old and has 38.0", "febrile_infant"),
        ("blood pressure 180/100 and chest pain", "hypertensive_emergency"),
        ("my sugar is 2.9 and I am shaking", "severe_hypoglycaemia"),
        ("oxygen is 91", "severe_breathlessness"),
        ("ketones are 3.0", "diabetic_ketoacidosis"),
    ],
)
def test_numbers_count_from_their_threshold(question: str, family: str) -> None:
    assert f"red_flag.{family}" in described(question)


@pytest.mark.parametrize(
    "question",
    [
        "my baby is 5 weeks old and has 37.9",
        "blood pressure 179/100 and chest pain",
        "my sugar is 3.1 and I am fine",
        "oxygen is 92",
        "ketones are 2.9",
    ],
)
def test_numbers_below_their_threshold_do_not(question: str) -> None:
    assert described(question) == []


def test_a_patient_in_care_needs_no_call() -> None:
    question = "A 60-year-old man presents with crushing chest pain and sweating. Next step?"

    assert {each.kind for each in found(question, "Give aspirin.")} == {"red flag"}


@pytest.mark.parametrize(
    ("question", "family", "verified"),
    [
        ("newborn wont feed and is hard to wake", "sepsis_child", True),
        ("newborn is grunting and wont feed", "sepsis_child", False),
        ("pulsing lump in my belly and pain", "aortic_emergency", True),
        ("ripping pain in back and chest", "aortic_emergency", False),
        ("my oxygen is 85", "severe_breathlessness", False),
    ],
)
def test_a_sign_that_the_source_does_not_name_is_not_verified(
    question: str, family: str, verified: bool
) -> None:
    described = [each for each in found(question) if each.rule == f"red_flag.{family}"]

    assert [each.basis.verified for each in described] == [verified]


def test_an_aside_hides_no_sign_that_stands_beside_it() -> None:
    asked = "my gp is not responding to my emails and dad isnt waking up at all"
    assert described(asked) == ["red_flag.unconscious"]
    assert "red_flag.febrile_infant" in described("room is 19 degrees, my newborn has 38.4")


def test_without_a_question_red_flags_are_not_checked() -> None:
    assert "red flag: no question was given" in review_answer("Rest.").report.not_checked


def test_words_are_one_by_their_stem() -> None:
    assert stem("breathing") == stem("breathes") == stem("breathe") == "breath"
    assert stem("wont") == stem("won't") != stem("want") and stem("cant") == stem("can't")
    assert stem("stopped") == stem("stop") and stem("severed") != stem("severe")


def test_patterns_are_near_words_in_any_order_that_do_not_overlap() -> None:
    words = Vocabulary({"pain": ["pain", "ache"], "ignored": ["pain clinic"]})
    pattern = words.pattern("@pain + chest | heart")

    def places(text: str) -> object:
        content = content_of(read(text))
        return pattern.find(words.find(content))

    assert places("chest pain") and places("an ache in my heart")
    assert not places("chest clinic") and not places("chest: pain clinic")
    assert not places("chest " + "word " * 20 + "pain")
    with pytest.raises(ValueError, match="no concept '@pane'"):
        words.pattern("@pane")


@given(st.text(max_size=300))
@settings(max_examples=60, deadline=None)
def test_no_text_crashes_it_and_places_are_of_the_text(text: str) -> None:
    question = f"{text} chest pain, sweating {text}"
    for each in found(question, text):
        length = len(question if each.where == "question" else text)
        assert all(0 <= begin < end <= length for begin, end in each.spans)


@pytest.mark.parametrize(
    ("question", "is_high"),
    [
        ("the lab says my potassium is 7.1", True),
        ("k+ 6.9 on the blood test", True),
        ("my potassium was 4.1", False),
        ("he takes potassium chloride 8 mmol daily", False),
        ("how much potassium in 7 bananas", False),
        ("my potassium was checked 10 days ago", False),
    ],
)
def test_a_potassium_of_6_5_is_an_emergency(question: str, is_high: bool) -> None:
    assert ("red_flag.hyperkalaemia" in described(question)) == is_high


@pytest.mark.parametrize(
    ("answer", "is_bad"),
    [
        ("Call 999 now. Put nothing in his mouth.", False),
        ("Call 999 now and never put anything in his mouth.", False),
        ("Call 999 now, and give him nothing to drink.", False),
        ("Call 999 now and put a spoon in his mouth.", True),
    ],
)
def test_what_an_answer_forbids_is_not_what_it_advises(answer: str, is_bad: bool) -> None:
    question = "My son has been having a fit for 7 minutes and it is not stopping"
    assert any(each.where != "question" for each in found(question, answer)) == is_bad


@pytest.mark.parametrize(
    ("answer", "sends"),
    [
        ("Ring your maternity unit straight away, and don't wait until tomorrow.", True),
        ("Please rush to the hospital where you delivered, without delay.", True),
        ("Ring your maternity unit tomorrow.", False),
        ("Your doctor may refer you to A&E at the next visit.", False),
    ],
)
def test_help_that_is_put_off_is_none(answer: str, sends: bool) -> None:
    missing = [each for each in found("33 weeks, and I have not felt the baby move", answer)
               if each.kind == "missing"]  # fmt: skip
    assert bool(missing) != sends


@pytest.mark.parametrize(
    ("family", "question", "is_one"),
    [
        ("waters", "36 weeks and contractions every five minutes", True),
        ("waters", "39 weeks and contractions every five minutes", False),
        ("nosebleed", "my nosebleed has been going for 50 minutes", True),
        ("nosebleed", "my nosebleed stopped after 3 minutes", False),
        ("severe_hypoglycaemia", "my diabetic wife is confused, her meter says 2.3", True),
        ("severe_hypoglycaemia", "my peak flow meter says 2.3, I am confused", False),
    ],
)
def test_numbers_count_from_where_they_are_an_emergency(
    family: str, question: str, is_one: bool
) -> None:
    assert (f"red_flag.{family}" in described(question)) == is_one
