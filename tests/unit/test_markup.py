"""Words, and numbers with their units, that markup or character references part."""

import time

import pytest

from medllm.clinical import review_answer
from medllm.clinical.text.folding import fold


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("**metho**trexate", "**methotrexate"),
        ("metho*trexate*", "methotrexate*"),
        ("metho<wbr>trexate and metho&shy;trexate", "methotrexate and methotrexate"),
        ('<B><span class="x">metho</span></b>trexate', '<b><span class="x">methotrexate'),
        ("**25** mg", "**25 mg"),
        ("25 *mg* and __25__ mg", "25 mg* and __25 mg"),
        ("25 <b>mg</b>/<i>kg</i>", "25 mg/kg</i>"),
        ("**25 mg**/kg", "**25 mg/kg"),
        ("25 **mg** per kg", "25 mg per kg"),
        ("<b>25</b>&nbsp;mg", "<b>25 mg"),
        ("&#50;&#x35; &nbsp; &thinsp;mg", "25 mg"),
        ("5 &micro;g &middot; 37 &deg;C &lt; 10&sup3;", "5 ug . 37 °c < 10^3"),
        (r"$25\,\text{mg}/\text{kg}$ or 5\,mg", "$25 mg/kg$ or 5 mg"),
        ("25<br>mg <BR /><br/> daily", "25 mg daily"),
    ],
)
def test_what_markup_parts_is_read_as_it_is_shown(written: str, read: str) -> None:
    assert fold(written).text == read


@pytest.mark.parametrize(
    "written",
    [
        "2*3 and 5 * 2 and 2*x and 3*y",
        "2**5 mg",
        "2**5** mg",
        "2.**5** mg",
        "1 **000** mg",
        "2<b>5</b> mg",
        "5/**160** mg",
        "10<sup>9</sup>/l and co<sub>2</sub>",
        "~~25~~ mg and <del>25</del> mg",
        "30 mg*kg*day and 5*mg*kg",
        'dose_25_mg and {"first_line_drug": "x_y_z"}',
        "a<b and <5 mg and 5 < 10 > 3 and a<b>c",
        "* aspirin 5 mg * ibuprofen 4 mg",
        "at&t; and &foo; and x & y; and a=1&b=2",
        r"25\,\text{mg}\cdot\text{kg}^{-1} and 25\,\mu\text{g}",
        r"c:\text and \text{mg",
    ],
)
def test_what_does_not_change(written: str) -> None:
    assert fold(written).text == written


@pytest.mark.parametrize(
    ("written", "drug", "dose"),
    [
        ("Take **metho**trexate **25** mg daily.", "metho**trexate", "25** mg"),
        ("Take <b>metho</b>trexate 25 mg daily.", "metho</b>trexate", "25 mg"),
        ("Take metho<wbr>trexate <b>25</b>&nbsp;mg daily.", "metho<wbr>trexate", "25</b>&nbsp;mg"),
        ("Take methotrexate &#50;&#53; mg daily.", "methotrexate", "&#50;&#53; mg"),
        ("Take **methotrexate** 25&nbsp;mg daily.", "methotrexate", "25&nbsp;mg"),
        (r"Take methotrexate $25\,\text{mg}$ daily.", "methotrexate", r"25\,\text{mg"),
    ],
)
def test_a_dose_in_markup_is_found_where_it_stands(written: str, drug: str, dose: str) -> None:
    folded = fold(written)
    for said, quoted in (("methotrexate", drug), ("25 mg", dose)):
        at = folded.text.index(said)
        assert written[slice(*folded.origin(at, at + len(said)))] == quoted
    plain = review_answer("Take methotrexate 25 mg daily.").report.findings
    marked = review_answer(written).report.findings
    assert [each.rule for each in marked] == [each.rule for each in plain]
    quoted_by = {each.kind: written[slice(*each.spans[0])] for each in marked}
    assert quoted_by["contraindication"] == drug
    assert quoted_by["dose"].startswith(dose)
    assert quoted_by["dose"].endswith("daily")


@pytest.mark.parametrize(
    "part", ["*a", "**5** m", "_a_ ", "</b>", "<b x='", "&nbsp; ", "&#5", r"\,\text{mg} 2", "& "]
)
def test_the_time_is_linear(part: str) -> None:
    begin = time.process_time()
    fold(part * (200_000 // len(part)))
    assert time.process_time() - begin < 5


@pytest.mark.parametrize(
    ("written", "drug", "dose"),
    [
        ("Take metho-\ntrexate 25 mg daily.", "metho-\ntrexate", "25 mg daily"),
        ("Take metho\u00ad\n  trexate 25 mg daily.", "metho\u00ad\n  trexate", "25 mg daily"),
        ("Take metho<br>trexate 25<br>mg daily.", "metho<br>trexate", "25<br>mg daily"),
        ("Methotrexate<br/>25 milli-\ngrams daily.", "Methotrexate", "25 milli-\ngrams daily"),
        ("- Avoid aspirin<br>- Take methotrexate 25 mg daily", "methotrexate", "25 mg daily"),
    ],
)
def test_a_drug_or_dose_that_a_line_end_parts_is_found(written: str, drug: str, dose: str) -> None:
    findings = review_answer(written).report.findings

    quoted = {(each.kind, each.severity): each.spans for each in findings}
    (at,) = quoted["dose", "contraindicated"]
    assert written[slice(*at)] == dose
    (at,) = quoted["contraindication", "info"]
    assert written[slice(*at)] == drug


@pytest.mark.parametrize("written", ["twice-\ndaily", "beta-\nblocker", "200-\n800 mg"])
def test_what_no_name_of_a_drug_is_keeps_its_hyphen(written: str) -> None:
    assert fold(written, {"methotrexate"}).text == written.replace("\n", " ")
