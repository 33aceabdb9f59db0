import pytest

from medllm.clinical.drugs.mentions import find_drugs
from medllm.clinical.drugs.names import build_drug_names
from medllm.clinical.rules.knowledge import shipped_knowledge
from medllm.clinical.text.reading import read


def found(text: str, *, is_list: bool = False) -> list[tuple[str, str]]:
    reading = read(text)
    mentions = find_drugs(reading, shipped_knowledge(), is_list=is_list)
    quoted = [text[slice(*reading.place(each.first, each.last))] for each in mentions]
    named = [each.drug_class or "+".join(each.drugs) for each in mentions]
    return list(zip(quoted, named, strict=True))


def test_a_drug_is_known_by_every_name_it_has_in_the_us_the_uk_and_india() -> None:
    same = {
        "paracetamol": ["acetaminophen", "Tylenol", "Panadol", "Calpol", "Crocin", "APAP"],
        "salbutamol": ["albuterol", "Ventolin", "Asthalin"],
        "pethidine": ["meperidine", "Demerol"],
        "epinephrine": ["adrenaline", "EpiPen"],
        "glyceryl trinitrate": ["nitroglycerin", "GTN", "Nitrostat"],
        "ciclosporin": ["cyclosporine", "Neoral", "Sandimmune"],
        "furosemide": ["frusemide", "Lasix"],
        "lidocaine": ["lignocaine", "Xylocaine"],
        "rifampicin": ["rifampin", "Rifadin"],
        "St John's wort": ["St. John\u2019s wort", "hypericum", "st johns wort"],
        "hydrochlorothiazide": ["HCTZ"],
    }

    for drug, names in same.items():
        for name in [drug, *names, *(name.upper() for name in names)]:
            assert [what for _, what in found(f"One word on {name}.")] == [drug], name


def test_a_product_names_all_that_is_in_it() -> None:
    assert found("Augmentin, TMP/SMX; co-codamol") == [
        ("Augmentin", "amoxicillin+clavulanic acid"),
        ("TMP/SMX", "sulfamethoxazole+trimethoprim"),
        ("co-codamol", "paracetamol+codeine"),
    ]
    assert found("Percocet and Vicodin") == [
        ("Percocet", "oxycodone+paracetamol"), ("Vicodin", "hydrocodone+paracetamol"),
    ]  # fmt: skip


def test_salts_and_forms_belong_to_the_mention() -> None:
    text = "metoprolol succinate ER 50 mg, diclofenac sodium gel, losartan potassium 50 mg"

    assert found(text) == [
        ("metoprolol succinate ER", "metoprolol"),
        ("diclofenac sodium gel", "diclofenac"),
        ("losartan potassium", "losartan"),
    ]


def test_classes_are_named_in_singular_and_plural() -> None:
    assert found("an SSRI, NSAIDs, beta-blockers, MAO inhibitors or blood thinners") == [
        ("SSRI", "SSRI"), ("NSAIDs", "NSAID"), ("beta-blockers", "beta-blocker"),
        ("MAO inhibitors", "MAOI"), ("blood thinners", "anticoagulant"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "drugs"),
    [
        ("Iron deficiency comes from too little iron-rich food.", []),
        ("Her calcium level was 2.4 mmol/L, potassium 4.2 mmol/L.", []),
        ("Take iron twice daily.", ["iron"]),
        ("Calcium 500 mg after meals", ["calcium"]),
        ("The soma of the neuron", []),
        ("Soma 350 mg at night", ["carisoprodol"]),
        ("ASA class III", []),
        ("ASA and clopidogrel", ["aspirin", "clopidogrel"]),
        ("clopidogrel + ASA", ["clopidogrel", "aspirin"]),
        ("Do not drink alcohol.", ["alcohol"]),
        ("The alcohol wipe", []),
    ],
)
def test_a_common_word_is_a_drug_only_where_it_is_taken(text: str, drugs: list[str]) -> None:
    assert [what for _, what in found(text)] == drugs


def test_in_a_list_of_medications_a_common_word_is_a_drug() -> None:
    assert found("iron", is_list=True) == [("iron", "iron")]


def test_the_names_cover_more_than_the_rules_do() -> None:
    names = shipped_knowledge().built(build_drug_names)

    assert found("imiglucerase") == [("imiglucerase", "imiglucerase")]
    assert "imiglucerase" not in names.in_rules and "warfarin" in names.in_rules
    assert {"NSAID", "antiplatelet", "salicylate"} <= names.classes_of["aspirin"]
    assert ("SSRI", "fluoxetine") not in names.unverified
    assert ("Z-drug", "zolpidem") in names.unverified
