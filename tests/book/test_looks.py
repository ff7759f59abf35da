"""Pictures of five key pages for a person to look at, in ``_build/screenshots``."""

import pytest
from PIL import Image, ImageStat

import screenshots


@pytest.mark.parametrize("page", screenshots.PAGES)
def test_page_is_pictured_light_dark_and_narrow(page, browser):
    screenshots.FOLDER.mkdir(parents=True, exist_ok=True)
    light, dark, narrow = (Image.open(path) for path in screenshots.take(browser, page))
    assert brightness(light) > 190 > 100 > brightness(dark)
    assert light.width == dark.width == screenshots.WIDE["width"]
    assert narrow.width == screenshots.NARROW["width"]


def brightness(picture):
    """The mean of all pixels, between 0 and 255."""
    return ImageStat.Stat(picture.convert("L")).mean[0]
