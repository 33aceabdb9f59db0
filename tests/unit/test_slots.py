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
