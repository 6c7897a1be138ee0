"""Put dead letters back, each with one effect, however often the command is killed and run again.

Theory. A letter's effect lies in one of two places, and the mark that says "done" has to lie where the effect does.

*A sink's letter.* Its effect is rows, so mark and rows are one transaction (`sinks.repair.redrive`). No window is left.

*A letter of `digest` or `analyze`.* Its effect is a record in the log, which no transaction shares with Postgres. So:

1. Decide: one transaction gives each letter the next number, in the order of the log that it comes from.
2. Send the letters that are decided and not known to have landed, those of a former run first, in order of their
   numbers. The next one is sent only when the last one is acknowledged.
3. Say that it landed.

The fold keeps the highest number that it has seen, and passes over a record that is not beyond it
(`stream_processors.fold.partition`, rule 6). Killed before 1: nothing happened. Between 1 and 3: the next run sends
again whatever may have landed already, and the fold passes over it. Because of 2, a number lands for the first time
only after all lower ones have, whoever sends them, a command that was frozen and goes on included: so none that the
fold passes over is one that it has not seen.
"""
