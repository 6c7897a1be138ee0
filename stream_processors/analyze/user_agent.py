"""What a user agent says: browser, operating system, kind of device, and whether it is a bot."""

import re
from dataclasses import dataclass
from functools import lru_cache

from ua_parser import parse

CACHE_SIZE = 4096
"""Distinct user agents of a busy site's hour; a parse costs 14 us, a hit 0.1."""

MAX_LENGTH = 1024
"""Longer ones are cut before they are parsed: no browser sends more than 400."""

# What crawlers, monitors and automation call themselves. `bot` and `spider` only at the end of a word, for there are
# phones named CUBOT; HTTP libraries are left out: a server that reports its users' events is no bot.
_BOT = re.compile(
    r"(?<!cu)bot\b|crawl(?:er|ing)\b|spider\b|slurp\b|archiver\b|headless|lighthouse|phantomjs|puppeteer|playwright"
    r"|selenium|pingdom|uptimerobot|statuscake|ptst/|gtmetrix|facebookexternalhit|mediapartners-google"
    r"|google-inspectiontool|bingpreview|whatsapp/|embedly|prerender",
    re.IGNORECASE,
)
_TABLET = re.compile(r"ipad|tablet|kindle|silk/|playbook|nexus (?:7|9|10)\b|android(?!.*mobile)", re.IGNORECASE)
_MOBILE = re.compile(r"mobi|iphone|ipod|android|blackberry|windows phone|opera mini", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class UserAgent:
    """A parsed user agent; families are those of ua-parser."""

    browser: str | None
    os: str | None
    device_type: str
    """desktop | mobile | tablet. An iPad that asks for desktop sites calls itself a Mac, and counts as desktop."""
    is_bot: bool


@lru_cache(maxsize=CACHE_SIZE)
def parse_user_agent(text: str) -> UserAgent:
    """Parse a user agent."""
    text = text[:MAX_LENGTH]
    result = parse(text)
    device = result.device
    return UserAgent(
        browser=result.user_agent.family if result.user_agent else None,
        os=result.os.family if result.os else None,
        device_type="tablet" if _TABLET.search(text) else "mobile" if _MOBILE.search(text) else "desktop",
        is_bot=bool(_BOT.search(text)) or (device is not None and device.family == "Spider"),
    )
