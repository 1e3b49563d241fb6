"""Exact search that skips: block maxima bound the scores of 8 documents at once, and most need not be looked at.

A block whose bound is not above the k-th best score so far holds no hit (Mallia, Suel, Tonellotto, SIGIR 2024). Maxima
are of frequent terms alone, in 8 bits; the postings of other terms are so few that their impacts are added to the
bounds as they are. The blocks with the highest bounds come first, so that the threshold is high when the others come.
What is then left is scored block by block or, where much of a window is left, term at a time as `exact` does; either
way a document's products are added in the order of the query's terms, so that scores are the same, bit by bit.

Blocks are small because documents lie in any order: of 8 with a term few have it with a high impact, and bounds are
tight without sorting documents by similarity. The deeper the ranking in the collection, the less can be skipped:
`DOCUMENTS_PER_HIT` says from where on it is worth it.

Approximate search does the same with the blocks of the highest bounds alone, so many for each hit that is asked for
(`search.budget`): it finds the exact k best of the documents in them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neural_sparse.search.compiled import compiled
from neural_sparse.search.exact import NO_HIT, ROW_MASK, SHIFT, select_top
from neural_sparse.search.postings import Postings

DOCUMENTS_PER_HIT = 10_000
FREQUENT = 64  # terms of at least one document in so many have maxima
BLOCK_SHIFT = 3
BLOCK = 1 << BLOCK_SHIFT  # documents that share a maximum
WINDOW = 4096  # documents; their float64 scores take 32 KB
BLOCKS = WINDOW // BLOCK
SPAN = 128  # blocks that are passed over together
SPANS = BLOCKS // SPAN
FIRST = 32  # blocks that are searched first
LOOKUP = 50  # what finding a posting costs, if reading one in passing costs 1
SCORED = 100  # approximate search pays where it scores at most one document in so many,
LEAST_HITS = 50  # and for rankings at least so deep: else to bound all blocks takes longer than to score some
ROUNDING = 2.0**-22  # of float32 operations on bounds, with room to spare
TINY = np.float32(1e-30)  # below it float32 numbers are too coarse for ROUNDING
HUGE = 1e30  # above it sums may overflow


class BlockMaxima:
    """The maxima of one `Postings`, a term's made when a query first asks for it; for any number of threads.

    Attributes:
        row_of: int32 [vocabulary], the row of a frequent term, -1 of others.
        made: bool [rows], whether the other arrays have the row.
        greatest: float32 [rows], of the whole posting list.
        maxima: uint8 [rows, blocks], in 255ths of the greatest, rounded up.
        starts: int64 [rows, windows + 1], the posting at which each window begins.
    """

    def __init__(self, postings: Postings) -> None:
        self._postings = postings
        frequent = np.flatnonzero(np.diff(postings.offsets) * FREQUENT >= max(1, postings.n_docs))
        windows = -(-postings.n_docs // WINDOW)
        self.row_of = np.full(postings.vocab_size, -1, np.int32)
        self.row_of[frequent] = np.arange(len(frequent), dtype=np.int32)
        self.made = np.zeros(len(frequent), np.bool_)
        self.greatest = np.empty(len(frequent), np.float32)
        # The system gives memory to a page when it is first written: rows that are not made take none.
        self.maxima = np.empty((len(frequent), windows * BLOCKS), np.uint8)
        self.starts = np.empty((len(frequent), windows + 1), np.int64)

    def make(self, terms: NDArray[np.int32]) -> None:
        """Make the rows of these terms that are missing."""
        terms = terms[self.row_of[terms] >= 0]
        missing = np.unique(terms[~self.made[self.row_of[terms]]])
        if len(missing):
            # Two threads that make a row at a time write the same.
            _make_rows(
                self._postings.offsets,
                self._postings.docs,
                impacts=self._postings.impacts,
                terms=missing,
                row_of=self.row_of,
                greatest=self.greatest,
                maxima=self.maxima,
                starts=self.starts,
            )
            # By the interpreter's lock, after the row: no thread sees this before that on any processor.
            self.made[self.row_of[missing]] = True

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process: without rows, most of which are not there."""
        return BlockMaxima, (self._postings,)

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """As `search_with_bounds` takes them."""
        return self.row_of, self.greatest, self.maxima, self.starts

    @property
    def nbytes(self) -> int:
        """Bytes of the rows that have been made."""
        made = int(np.count_nonzero(self.made))
        return made * (self.maxima.shape[1] + 8 * self.starts.shape[1])


@compiled
def _make_rows(
    offsets: NDArray[np.int64],
    docs: NDArray[np.int32],
    impacts: NDArray[Any],
    terms: NDArray[np.int32],
    row_of: NDArray[np.int32],
    greatest: NDArray[np.float32],
    maxima: NDArray[np.uint8],
    starts: NDArray[np.int64],
) -> None:
    for term in terms:
        begin, end = offsets[term], offsets[term + 1]
        top = np.float32(0)
        for i in range(begin, end):
            top = max(top, np.float32(impacts[i]))
        step = np.float64(top) / 255
        row = maxima[row_of[term]]
        places = starts[row_of[term]]
        # Each cell is written once, for a thread that makes the row may do so beside one that searches with it.
        window, block, highest = 0, 0, np.uint8(0)
        for i in range(begin, end):
            while docs[i] >= window * WINDOW:
                places[window] = i
                window += 1
            if docs[i] // BLOCK > block:
                row[block] = highest
                row[block + 1 : docs[i] // BLOCK] = 0
                block, highest = docs[i] // BLOCK, np.uint8(0)
            highest = max(highest, np.uint8(min(255.0, np.ceil(impacts[i] / step))))
        row[block] = highest
        row[block + 1 :] = 0
        places[window:] = end
        greatest[row_of[term]] = top


@compiled
def _bound_of(
    blocks: int,
    bound_bits: NDArray[np.int32],
    promises: NDArray[np.int32],
    order: NDArray[np.int64],
    histogram: NDArray[np.int32],
) -> np.int32:
    """Bits of a bound that so many of the blocks reach, and few more do: it has the leading bits of a bucket."""
    least = np.int32(1)
    if blocks < len(order):  # the best of each of so many spans are at least so many blocks
        select_top(order, len(order), blocks)
        lowest = order[0] >> 32
        for place in range(1, blocks):
            lowest = min(lowest, order[place] >> 32)
        least = max(least, np.int32(lowest))
    histogram[:] = 0
    for span in range(len(promises)):
        if promises[span] >= least:
            for i in range(span * SPAN, (span + 1) * SPAN):
                histogram[bound_bits[i] >> SHIFT] += 1
    bucket = len(histogram) - 1
    reached = np.int64(histogram[bucket])
    while reached < blocks and bucket > 0:
        bucket -= 1
        reached += histogram[bucket]
    return max(np.int32(1), np.int32(bucket << SHIFT))


@compiled
def search_with_bounds(
    query_offsets: NDArray[np.int64],
    query_terms: NDArray[np.int32],
    query_weights: NDArray[np.float64],
    first: int,
    last: int,
    offsets: NDArray[np.int64],
    docs: NDArray[np.int32],
    impacts: NDArray[Any],
    n_docs: int,
    allowed: NDArray[np.bool_],
    k: int,
    blocks_scored: int,
    best: NDArray[np.int64],
    row_of: NDArray[np.int32],
    greatest: NDArray[np.float32],
    maxima: NDArray[np.uint8],
    starts: NDArray[np.int64],
) -> None:
    """As `search_block_at_a_time`, with the arrays of `BlockMaxima`, whose rows for the queries' terms are made.

    blocks_scored: about so many, those with the highest bounds; as many as there are, or more: exact.
    """
    filtered = len(allowed) > 0
    n_windows = (n_docs + WINDOW - 1) // WINDOW
    n_spans = n_windows * SPANS
    bounds = np.empty(n_windows * BLOCKS, np.float32)
    bound_bits = bounds.view(
        np.int32
    )  # positive floats are ordered as their bits are, and integers compare faster
    promises = np.empty(n_spans, np.int32)
    order = np.empty(n_spans, np.int64)
    n_first = min(FIRST, n_spans)
    leading = np.empty(n_first * SPAN, np.int64)
    accumulator = np.zeros(WINDOW, np.float64)  # scores of the window at hand; all 0 between windows
    capacity = 2 * k + 1024
    keys = np.empty(capacity, np.int64)
    blocks = np.empty(BLOCKS + 1, np.int64)
    found = np.empty(BLOCK + 1, np.int64)
    histogram = np.zeros(1 << (31 - SHIFT), np.int32)
    score = np.empty(1, np.float32)
    bits = score.view(np.int32)
    for query in range(first, last):
        start = query_offsets[query]
        n_terms = query_offsets[query + 1] - start
        begins = np.empty((n_terms, n_windows + 1), np.int64)  # of each window in each posting list
        rows = np.empty(n_terms, np.int64)
        factors = np.empty(n_terms, np.float32)
        postings = 0
        widening = 1 + (n_terms + 8) * ROUNDING
        boundless = False  # float32 does not do
        for j in range(n_terms):
            term = query_terms[start + j]
            rows[j] = row_of[term]
            postings += offsets[term + 1] - offsets[term]
            factor = query_weights[start + j] * widening
            if rows[j] >= 0:
                factor *= np.float64(greatest[rows[j]]) / 255
                for window in range(n_windows + 1):
                    begins[j, window] = starts[rows[j], window]
            boundless |= not TINY < factor < HUGE
            factors[j] = factor
        # 1. Bound the score of every block.
        bounds[:] = np.float32(0)
        for j in range(n_terms):
            if rows[j] >= 0:
                continue
            term, factor = query_terms[start + j], factors[j]
            window = 0
            for cursor in range(offsets[term], offsets[term + 1]):
                doc = docs[cursor]
                while doc >= window * WINDOW:
                    begins[j, window] = cursor
                    window += 1
                bounds[doc >> BLOCK_SHIFT] += max(factor * np.float32(impacts[cursor]), TINY)
            begins[j, window:] = offsets[term + 1]
        if boundless:
            bounds[:] = np.float32(np.inf)
        for window in range(n_windows):
            part = bounds[window * BLOCKS : (window + 1) * BLOCKS]
            for j in range(n_terms):
                if rows[j] >= 0 and not boundless:
                    factor = factors[j]
                    row = maxima[rows[j], window * BLOCKS : (window + 1) * BLOCKS]
                    for i in range(BLOCKS):
                        part[i] += factor * np.float32(row[i])
            for span in range(window * SPANS, (window + 1) * SPANS):
                here = bound_bits[span * SPAN : (span + 1) * SPAN]
                promise = np.int32(0)
                for i in range(SPAN):
                    promise = max(promise, here[i])
                promises[span] = promise
                order[span] = (np.int64(promise) << 32) | span
        needed = np.int32(1)  # by a block's bound, to be looked at
        if blocks_scored < len(bounds):
            needed = _bound_of(blocks_scored, bound_bits, promises, order=order, histogram=histogram)
        # 2. The most promising blocks come first, then the others as they lie. The best of each of so many spans are
        # at least so many blocks, hence none of those that lead has a lower bound.
        select_top(order, n_spans, n_first)
        least = order[0] >> 32
        for place in range(1, n_first):
            least = min(least, order[place] >> 32)
        least = max(least, 1)
        n_leading = 0
        for place in range(n_first):
            span = order[place] & ROW_MASK
            for i in range(span * SPAN, (span + 1) * SPAN):
                if bound_bits[i] >= least:
                    leading[n_leading] = (np.int64(bound_bits[i]) << 32) | i
                    n_leading += 1
        if n_leading > n_first:
            select_top(leading, n_leading, n_first)
            n_leading = n_first
        for i in range(1, n_leading):  # by insertion: they are few
            key, j = leading[i], i
            while j > 0 and leading[j - 1] > key:
                leading[j] = leading[j - 1]
                j -= 1
            leading[j] = key
        n = 0
        floor = np.int64(0)  # only a greater key can enter,
        threshold = 0.0  # and only a greater score,
        lowest_bound = needed  # and only from a block whose bound has at least these bits
        lowest = 0  # bucket of the threshold
        reached = 0  # candidates in this bucket and above
        histogram[:] = 0
        for turn in range(n_leading + n_windows):
            passing = 0
            if turn < n_leading:
                block = leading[n_leading - 1 - turn] & ROW_MASK
                window = block // BLOCKS
                blocks[0] = block - window * BLOCKS
                passing = 1
            else:
                window = turn - n_leading
                for span in range(window * SPANS, (window + 1) * SPANS):
                    if promises[span] < lowest_bound:
                        continue
                    # Without a branch, which would be mispredicted.
                    for i in range(span * SPAN, (span + 1) * SPAN):
                        blocks[passing] = i - window * BLOCKS
                        passing += bound_bits[i] >= lowest_bound
                if passing == 0:
                    continue
            base = window * WINDOW
            first_block = window * BLOCKS
            # 3. Where few blocks pass, look their postings up; else add those of the whole window.
            apart = turn < n_leading or passing * n_terms * LOOKUP < postings // n_windows + BLOCKS
            if not apart:
                for j in range(n_terms):
                    weight = query_weights[start + j]
                    for cursor in range(begins[j, window], begins[j, window + 1]):
                        accumulator[docs[cursor] - base] += weight * impacts[cursor]
            for place in range(passing):
                block = blocks[place]
                if bound_bits[first_block + block] < lowest_bound:  # which has been raised meanwhile
                    continue
                bound_bits[first_block + block] = 0  # done
                head = block * BLOCK
                if apart:
                    for j in range(n_terms):
                        if rows[j] >= 0 and maxima[rows[j], first_block + block] == 0:
                            continue
                        begin, end = begins[j, window], begins[j, window + 1]
                        cursor = begin + (end - begin) * block // BLOCKS  # about there, if they lie evenly
                        while cursor > begin and docs[cursor - 1] >= base + head:
                            cursor -= 1
                        while cursor < end and docs[cursor] < base + head:
                            cursor += 1
                        weight = query_weights[start + j]
                        while cursor < end and docs[cursor] < base + head + BLOCK:
                            accumulator[docs[cursor] - base] += weight * impacts[cursor]
                            cursor += 1
                # 4. Select: only what is above the threshold becomes a candidate.
                hits = 0
                for i in range(head, head + BLOCK):
                    found[hits] = i
                    hits += accumulator[i] > threshold
                for j in range(hits):
                    doc = base + found[j]
                    if filtered and not allowed[doc]:
                        continue
                    score[0] = accumulator[found[j]]
                    key = (np.int64(bits[0]) << 32) | (ROW_MASK - doc)
                    if bits[0] == 0 or key <= floor:  # rounded to no score at all, or not good enough
                        continue
                    keys[n] = key
                    n += 1
                    # Count it by its score's leading bits, for the threshold below.
                    bucket = bits[0] >> SHIFT
                    if bucket >= lowest:
                        histogram[bucket] += 1
                        reached += 1
                if apart:
                    accumulator[head : head + BLOCK] = 0.0
                # 5. Raise the threshold to the highest bucket that k candidates reach or exceed. Documents that come
                # later may lie before them and have an equal score: these can still enter.
                raised = floor
                if reached - histogram[lowest] >= k:
                    while reached - histogram[lowest] >= k:
                        reached -= histogram[lowest]
                        lowest += 1
                    raised = max(raised, (np.int64(lowest) << (SHIFT + 32)) - 1)
                # 6. The buckets are too coarse for many scores that are nearly equal: then select among the keys.
                if n > capacity - BLOCK:
                    select_top(keys, n, k)
                    n = k
                    worst = keys[0]
                    for i in range(1, k):
                        worst = min(worst, keys[i])
                    raised = max(raised, worst)
                if raised > floor:
                    floor = raised
                    bits[0] = max(
                        int(floor >> 32) - 1, 0
                    )  # sums above it may round to the score that is wanted
                    threshold = np.float64(score[0])
                    lowest_bound = max(bits[0], needed)
            if not apart:
                accumulator[:] = 0.0
        if n > k:
            select_top(keys, n, k)
            n = k
        for i in range(n):
            best[query - first, i] = keys[i]
        best[query - first, n:] = NO_HIT
