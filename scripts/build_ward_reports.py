"""Write `data/ward_reports.csv`, the export that docs/tutorial.md starts from.

    python scripts/build_ward_reports.py

It is what a hospital's system writes for a spreadsheet: parted by semicolons, in Windows-1252, with
German headings, a patient number that begins with zeros, several reports of some patients, and a
few rows that are of no use. The reports are made up (`medllm/data/generators/radiology.py`); no
patient, ward or date is real.
"""

import csv
from datetime import date, timedelta
from pathlib import Path
from random import Random

from medllm.data.generators.radiology import build_report

TARGET = Path(__file__).parents[1] / "data" / "ward_reports.csv"
HEADINGS = ("PatNr", "Datum", "Station", "Befund", "Beurteilung")
WARDS = ("Innere Süd", "Innere Nord", "Chirurgie", "Gynäkologie", "Notaufnahme")
ROWS = 300
PATIENTS = 190
UNREAD = {57, 181, 262}  # rows whose impression nobody has dictated yet
TWICE = {120, 255}  # rows that the system has exported twice


def build_rows() -> list[tuple[str, ...]]:
    """The cells of each row, in the order of the dates."""
    rng = Random("ward reports")
    day = date(2025, 1, 2)
    rows: list[tuple[str, ...]] = []
    for number in range(ROWS):
        day += timedelta(days=rng.random() < 0.6)
        report = build_report(rng)
        row = (
            f"{rng.randrange(PATIENTS) * 37 + 10_411:07d}",
            f"{day:%d.%m.%Y}",
            rng.choice(WARDS),
            report.findings,
            "" if number in UNREAD else report.impression,
        )
        rows += [row] * (2 if number in TWICE else 1)
    return rows


def main() -> None:
    """Write the file."""
    with TARGET.open("w", encoding="cp1252", newline="") as file:
        writer = csv.writer(file, delimiter=";", lineterminator="\r\n")
        writer.writerow(HEADINGS)
        writer.writerows(build_rows())


if __name__ == "__main__":
    main()
