"""The disk that takes what the broker cannot, and gives it back in order.

- `route` decides which way a request goes, `format` is how it lies on the disk: pure;
- `files`: the directory and its segments; `window`: what the producer was handed; `queue`: where they meet.
"""
