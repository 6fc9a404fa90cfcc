"""What a policy means where it says nothing, and how far its numbers and texts may go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from afmiddleware.config.load import load
from afmiddleware.config.overlays import schedules_of
from afmiddleware.errors import ConfigError

DATA: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("defaults.yaml").read_text("utf-8"))
START = "version: 1\nservice: s\n"


def test_what_is_not_said_means_what_the_table_says() -> None:
    assert load(DATA["file"]).model_dump(mode="json") == DATA["means"]


@pytest.mark.parametrize("bound", DATA["bounds"], ids=lambda bound: bound["file"])
def test_a_number_is_taken_up_to_its_bounds_and_not_beyond(bound: dict[str, Any]) -> None:
    least, most = bound["least"], bound.get("most")
    for right in (least, most or 10**9):
        load(START + bound["file"].replace("N", str(right)))
    for wrong in (least - 1, *([most + 1] if most else [])):
        with pytest.raises(ConfigError):
            load(START + bound["file"].replace("N", str(wrong)))


@pytest.mark.parametrize("length", DATA["lengths"], ids=lambda length: length["file"])
def test_a_text_is_taken_up_to_its_length_and_not_beyond(length: dict[str, Any]) -> None:
    load(START + length["file"].replace("T", "t" * length["most"]))
    with pytest.raises(ConfigError):
        load(START + length["file"].replace("T", "t" * (length["most"] + 1)))


def test_a_schedule_is_in_the_time_zone_of_the_file_unless_it_names_its_own() -> None:
    hours = "open: daily 09:00-17:00"
    text = f"timezone: Asia/Tokyo\nschedules: {{a: {{{hours}}}, b: {{{hours}, timezone: Europe/London}}}}\n"
    zones = {name: schedule.zone for name, schedule in schedules_of(load(START + text)).items()}
    assert zones == {"a": "Asia/Tokyo", "b": "Europe/London"}
