import pytest

from sinks.tables.page_names import page_name


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (None, ""),
        ("", ""),
        ("https://shop.example", "https://shop.example/"),
        ("https://shop.example/", "https://shop.example/"),
        ("HTTPS://Shop.Example:443/Cart/", "https://shop.example/Cart"),
        ("http://localhost:8080/cart", "http://localhost:8080/cart"),
        ("https://user:secret@shop.example/cart", "https://shop.example/cart"),
        ("https://shop.example/cart?token=secret&x=1#top", "https://shop.example/cart"),
        ("https://shop.example/orders/12345", "https://shop.example/orders/:id"),
        ("https://shop.example/orders/12345/items/7", "https://shop.example/orders/:id/items/:id"),
        ("https://shop.example/2026-11-25/news", "https://shop.example/:id/news"),
        ("https://shop.example/u/9b2f7c1e-3a44-4c8e-9d53-7d3c5f7a1b01", "https://shop.example/u/:id"),
        ("https://shop.example/u/9B2F7C1E3A444C8E9D537D3C5F7A1B01", "https://shop.example/u/:id"),
        ("https://shop.example/commit/85b0795c", "https://shop.example/commit/:id"),
        ("https://shop.example/d/1BxiMVs0XRA5nFMdKvBdBZjgmUUqptlbs", "https://shop.example/d/:id"),
        ("https://shop.example/p/iphone-15-pro-max-256gb", "https://shop.example/p/iphone-15-pro-max-256gb"),
        ("https://shop.example/v2/deadbeef/facade", "https://shop.example/v2/deadbeef/facade"),
        ("https://app.example/#/orders/7?tab=2", "https://app.example/#/orders/:id"),
        ("https://app.example/#!/orders/7", "https://app.example/#/orders/:id"),
        ("https://app.example/shop/#/orders", "https://app.example/shop/#/orders"),
        ("/orders/7?x=1", "/orders/:id"),
        ("about:blank", "about:blank"),
        ("file:///opt/app/index.html", "file:/opt/app/index.html"),
        ("data:text/html,<p>12</p>", "data:"),
        ("http://[broken", "http://[broken"),
        ("https://shop.example:notaport/", "https://shop.example:notaport/"),
    ],
)
def test_pages_that_differ_by_ids_alone_are_one_page(url: str | None, name: str) -> None:
    assert page_name(url) == name


def test_a_name_is_bounded() -> None:
    assert len(page_name("https://shop.example/" + "a" * 5_000)) == 2_048


def test_a_name_is_its_own_name() -> None:
    for url in ("https://shop.example/orders/7?x#y", "https://app.example/#/orders/7", "/a/b/8", "about:blank"):
        assert page_name(page_name(url)) == page_name(url)
