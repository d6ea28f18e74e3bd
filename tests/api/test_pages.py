"""Lists: every entry once, whatever happens between two pages."""

from uuid import UUID

import pytest

from cdpbridge.api import AsyncPages, Page, Profile

from .conftest import PROFILE


def profile(number):
    return Profile.model_validate(PROFILE | {"id": str(UUID(int=number))})


class Shelf:
    """A server's list, newest last."""

    def __init__(self, count):
        self.items = [profile(number) for number in range(count)]
        self.asked = []

    def pages(self, size=10):
        return AsyncPages(self.send, lambda number, size: (number, size), size)

    async def send(self, call):
        number, size = call
        self.asked.append(number)
        start = (number - 1) * size
        return Page[Profile](
            items=self.items[start : start + size],
            total_items=len(self.items),
            page_number=number,
            page_size=size,
        )


@pytest.mark.parametrize(("count", "asked"), [(0, [1]), (1, [1]), (10, [1]), (11, [1, 2]), (30, [1, 2, 3])])
async def test_all_of_it(count, asked):
    shelf = Shelf(count)
    pages = shelf.pages()
    assert pages.total_items is None
    assert [item async for item in pages] == shelf.items
    assert (shelf.asked, pages.total_items) == (asked, count)


async def test_one_page():
    shelf = Shelf(11)
    pages = shelf.pages()
    assert (await pages.page(2)).items == shelf.items[10:]
    assert pages.total_items == 11
    assert (await pages.page()).items == shelf.items[:10]


async def test_entries_that_go_while_we_read_hide_no_others():
    shelf = Shelf(35)
    found = []
    async for item in shelf.pages():
        found.append(item.id)
        shelf.items.remove(item)  # as stopping each of the active browsers does
    assert sorted(found) == [UUID(int=number) for number in range(35)]


async def test_entries_that_come_while_we_read_repeat_no_others():
    shelf = Shelf(20)
    found = []
    async for item in shelf.pages():
        found.append(item.id)
        if len(found) == 3:
            shelf.items.insert(0, profile(99))
    assert len(found) == len(set(found)) == 20


async def test_a_list_that_ends_before_its_total_is_over():
    shelf = Shelf(3)

    async def send(call):
        page = await Shelf.send(shelf, call)
        return page.model_copy(update={"total_items": 1000})

    pages = AsyncPages(send, lambda number, size: (number, size), 10)
    assert [item async for item in pages] == shelf.items
    assert shelf.asked == [1, 2]


async def test_a_total_that_jumps_about_ends():
    shelf = Shelf(15)
    totals = iter([20, 18, 20, 18, 20, 18, 15] + [15] * 9)

    async def send(call):
        page = await Shelf.send(shelf, call)
        return page.model_copy(update={"total_items": next(totals)})

    pages = AsyncPages(send, lambda number, size: (number, size), 10)
    assert len([item async for item in pages]) == 15
