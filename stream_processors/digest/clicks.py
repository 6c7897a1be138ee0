"""From rrweb's mouse and touch events to what the user did: one signal per deliberate click.

- A *click* is rrweb's Click. Double click and context menu are no primary clicks and give none.
- A *press* is a pointer that went down and up at one place on a disabled control: the browser sends no click event, the
  user pressed all the same. It takes the time of its pointer-down. On a touch screen the click may come up to 700 ms
  after the finger left (the browser waits for a second tap), so a tap is a press only if none came; there the control
  need not be disabled, because pages that handle touches themselves suppress the click; but a tap that stops a page
  from rolling on is none.
- A *twin* is an event that the browser makes up: after a tap the same again as mouse events, after a click on a label
  a click on its control (some milliseconds later at the same place). A twin is dropped; that the label's control
  cannot be judged is said of the label's click.
- A *drag* (more than 8 px between down and click) is no click.
- A click at (0, 0) was made by the keyboard or by a script. One that follows a real click at once was passed on by it
  (a button for a hidden file input, a link made for a download): it is dropped, and the real click is judged by what
  it led to.

A chunk may end between the events of one click. A press on a disabled control is then sent, because it may be the last
thing that the user did, and a click that turns up for it in the next chunk is taken for what it is: the same one. A tap
elsewhere waits for the next chunk, which nearly always brings its click.
"""

from dataclasses import dataclass, replace

from schemas.signals import Click, NotJudged, PointerDown, Signal
from stream_processors.digest import rrweb
from stream_processors.digest.answers import Answers
from stream_processors.digest.background import Background
from stream_processors.digest.dom import Tree
from stream_processors.digest.pointer import TAP_CLICK_MS, Point, Pointer, Press
from stream_processors.digest.targets import describe_target, find_target, is_disabled, why_not_judged

MAX_PRESS_MS = 600
MOUSE_CLICK_MS = 250
"""From pointer-up to click: one task of the browser, but 59 ms were seen on a busy machine."""
MENU_MS = 80
TWIN_MS = 40
RELAY_MS = 100
"""From a click to the one that its handler makes: one task, nobody presses a key so soon."""
ROLLING_MS = 300
DRAG_PX = 8
DOWN_OF_CLICK_MS = 1_500
"""A click without a pointer-up belongs to a pointer-down this long ago at most."""
MAX_WAITING = 16


@dataclass(slots=True)
class Clicks:
    """Reads the pointer events of one chunk."""

    pointer: Pointer
    answers: Answers
    background: Background
    window: str
    out: list[Signal]

    def on_pointer(self, kind: int, point: Point, *, tree: Tree | None, page_url: str) -> Click | None:
        """Take in one mouse or touch event; return the click that it completed, also one that was passed on."""
        if kind in (rrweb.MOUSE_DOWN, rrweb.TOUCH_START):
            self._on_down(point, tree, is_touch=kind == rrweb.TOUCH_START)
        elif kind in (rrweb.MOUSE_UP, rrweb.TOUCH_END):
            self._on_up(point, tree, page_url, is_touch=kind == rrweb.TOUCH_END)
        elif kind == rrweb.CLICK:
            return self._on_click(point, tree, page_url)
        elif kind == rrweb.CONTEXT_MENU:
            self._on_menu(point)
        elif kind == rrweb.TOUCH_CANCEL:
            self.pointer.down = None
        return None

    def send_presses(self, now: int | None = None) -> None:
        """Send the presses whose click has not come by `now`, or the certain ones at the end of the chunk."""
        pointer = self.pointer
        for press in pointer.presses:
            if press.signal is not None and (press.is_certain if now is None else now > press.until):
                self.out.append(press.signal)
                press.signal = None
        if pointer.presses:
            pointer.presses = [p for p in pointer.presses if now is None or now <= p.until][-MAX_WAITING:]

    def _on_down(self, point: Point, tree: Tree | None, *, is_touch: bool) -> None:
        pointer = self.pointer
        if not is_touch and self._is_twin_of_tap(point):
            return
        target = find_target(tree, point.node)
        pointer.down, pointer.up_at, pointer.is_touch, pointer.has_menu = point, 0, is_touch, False
        self.background.last_input = point.t
        self.answers.on_down(point.t, target, self.background, self.out)
        self.out.append(PointerDown(point.t, window=self.window, node=target.node))

    def _on_up(self, point: Point, tree: Tree | None, page_url: str, *, is_touch: bool) -> None:
        pointer, down = self.pointer, self.pointer.down
        if not is_touch and self._is_twin_of_tap(point):
            return
        self.background.last_input = point.t
        if is_touch:
            pointer.last_tap = point
        if down is None or pointer.up_at:
            return
        pointer.up_at = point.t
        if not (0 <= point.t - down.t <= MAX_PRESS_MS and point.node == down.node and point.is_near(down)):
            return
        target = find_target(tree, point.node)
        is_tap = is_touch and down.t - pointer.scrolled_at > ROLLING_MS
        is_certain = is_disabled(tree, target)
        if pointer.has_menu or not (is_tap or is_certain):
            return
        why = why_not_judged(tree, target)
        if why is NotJudged.SELECT:
            return
        self.answers.on_click(point.t, target)
        signal = Click(
            t=down.t,
            x=down.x,
            y=down.y,
            window=self.window,
            node=target.node,
            element=describe_target(tree, target),
            page_url=page_url,
            not_judged=why,
            press=True,
            down=down.t,
        )
        until = point.t + (TAP_CLICK_MS if is_touch else MOUSE_CLICK_MS)
        pointer.presses.append(Press(point, until, signal, is_certain))

    def _on_click(self, point: Point, tree: Tree | None, page_url: str) -> Click | None:
        pointer = self.pointer
        target = find_target(tree, point.node)
        why = why_not_judged(tree, target)
        last, pointer.last_click = pointer.last_click, point
        if last is not None and _is_relayed(point, last):
            self._judge_by_twin(point, why)
            pointer.last_click = last
            return Click(point.t, window=self.window, node=target.node, page_url=page_url)
        if last is not None and self._is_twin_of_label(point, last):
            self._judge_by_twin(point, why)
            return None
        if self._claim_press(point):
            return None
        is_keyboard = point.x == 0 and point.y == 0
        down = None if is_keyboard else self._down_of(point)
        if down is not None and not down.is_near(point, px=DRAG_PX):
            return None
        if down is None:
            self.background.last_input = max(self.background.last_input, point.t)
            self.answers.on_down(point.t, target, self.background, self.out)
        self.answers.on_click(point.t, target)
        click = Click(
            t=point.t,
            x=point.x,
            y=point.y,
            window=self.window,
            node=target.node,
            element=describe_target(tree, target),
            page_url=page_url,
            not_judged=NotJudged.KEYBOARD if is_keyboard else why,
            down=down.t if down is not None else 0,
        )
        self.out.append(click)
        return click

    def _on_menu(self, point: Point) -> None:
        """Forget the press: a context menu came, before the pointer left or, on some systems, after it."""
        self.pointer.has_menu = True
        self.pointer.presses = [
            press for press in self.pointer.presses if press.signal is None or point.t - press.up.t > MENU_MS
        ]

    def _down_of(self, click: Point) -> Point | None:
        pointer = self.pointer
        if pointer.down is None:
            return None
        if pointer.up_at:
            wait = TAP_CLICK_MS if pointer.is_touch else MOUSE_CLICK_MS
            return pointer.down if click.t - pointer.up_at <= wait else None
        return pointer.down if click.t - pointer.down.t <= DOWN_OF_CLICK_MS else None

    def _is_twin_of_tap(self, point: Point) -> bool:
        tap = self.pointer.last_tap
        return tap is not None and 0 <= point.t - tap.t <= TAP_CLICK_MS and point.is_near(tap)

    def _is_twin_of_label(self, point: Point, last: Point) -> bool:
        is_soon = 0 <= point.t - last.t <= TWIN_MS
        return is_soon and (point.x, point.y) == (last.x, last.y) and point.node != last.node

    def _judge_by_twin(self, twin: Point, why: NotJudged | None) -> None:
        for index in range(len(self.out) - 1, -1, -1):
            signal = self.out[index]
            if isinstance(signal, Click):
                if signal.not_judged is None and twin.t - signal.t <= RELAY_MS:
                    self.out[index] = replace(signal, not_judged=why)
                return

    def _claim_press(self, click: Point) -> bool:
        """Take the click's own press away; return whether it was sent already, so that the click was counted."""
        presses = self.pointer.presses
        for index, press in enumerate(presses):
            if press.up.t <= click.t <= press.until and press.up.is_near(click):
                del presses[index]
                return press.signal is None
        return False


def _is_relayed(point: Point, last: Point) -> bool:
    is_made = point.x == 0 and point.y == 0 and (last.x != 0 or last.y != 0)
    return is_made and 0 <= point.t - last.t <= RELAY_MS and point.node != last.node
