"""Which slot of llama-server the next prompt gets."""

from medllm.engines.servers.slots import Slots

NOTE = [*range(40)]


def taken(slots: Slots, *owners: str | None) -> list[int]:
    return [slots.take([number], owner)[0].number for number, owner in enumerate(owners, 900)]


def test_prompts_that_come_together_get_slots_side_by_side() -> None:
    slots = Slots(8)
    for number in (0, 1, 2):  # so that the slots that were used longest ago are 3 to 7
        slot, _ = slots.take([number], "a")
        slots.give_back(slot)
    assert slots.take(NOTE, "b")[0].number == 3

    assert sorted(taken(slots, "c", "d", "e", "f", "g")) == [2, 4, 5, 6, 7]


def test_a_gap_is_filled_first() -> None:
    slots = Slots(4)
    held = [slots.take([number], None)[0] for number in range(4)]
    for slot in (held[0], held[2]):
        slots.give_back(slot)
    assert taken(slots, "a") == [2]


def test_the_next_turn_goes_where_the_one_before_it_is_for_its_owner_alone() -> None:
    slots = Slots(4)
    first, is_kept = slots.take(NOTE, "a")
    assert not is_kept
    other, _ = slots.take([7], "b")
    slots.give_back(first)
    slots.give_back(other)

    again, is_kept = slots.take([*NOTE, 1, 2], "a")
    assert (again, is_kept) == (first, True)
    slots.give_back(again)
    own, is_kept = slots.take(NOTE, "c")
    assert own is not first and not is_kept
    assert slots.take(NOTE, None)[1] is False


def test_a_long_beginning_in_common_is_worth_a_slot_apart_and_a_short_one_is_not() -> None:
    slots, short, long = Slots(8), [*range(30)], [*range(100)]
    brief, _ = slots.take(short, "a")
    slots.take([7], "b")
    slots.take([8], "b")
    note, _ = slots.take(long, "a")
    slots.give_back(brief)
    slots.give_back(note)

    assert slots.take([*long, 1], "a") == (note, True)
    assert slots.take([*short, 1], "a")[0].number == 4, "beside the others"
