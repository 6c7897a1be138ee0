"""How a stage folds one partition's log: a pure function of the log, wherever its batches begin and end.

- `logic`: the contract between the fold and what a stage means by a session;
- `partition`: the rules: order, time, closing, parking, the chain to the stage before;
- `chain`: what the stage before says of it;
- `sessions`: a partition's states; `agenda`: when the clock concerns which session next;
- `batch`: what a stretch of the log gives; `redriven`: what a record was before it was parked;
- `facts`: what the changelog holds, and how a partition is recovered from it.
"""
