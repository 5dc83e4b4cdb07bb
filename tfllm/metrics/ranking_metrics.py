"""How high the right documents stand among those that a search found."""

from __future__ import annotations

from collections.abc import Mapping

from tfllm.errors import InputError

__all__ = ["ranking"]


def ranking(
    found: Mapping[str, Mapping[str, float]], judged: Mapping[str, Mapping[str, int]]
) -> dict[str, float]:
    """Score searches by `ir-measures`, as `trec_eval` and BEIR do: means over the judged queries.

    A document with the id of the query is passed over, as BEIR does: in ArguAna, say, queries are
    documents of the corpus, and each would find itself.

    Args:
        found: query's id → document's id → score, the higher the better. A query that is missing
            found nothing.
        judged: query's id → document's id → how relevant it is, 0 for not at all.

    Returns:
        `ndcg_10`, `mrr_10` and `recall_100`, 0 to 1. Without judged queries all are 0.

    Raises:
        InputError: if `ir-measures` is not installed.

    Example:
        q1's d2 (relevance 2) first and d1 (1) third, q2's nothing → `ndcg_10` 0.475, `mrr_10` 0.5.

    Reference:
        Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, 2002: nDCG.
        Thakur et al., BEIR, 2021, arXiv:2104.08663.
    """
    try:
        import ir_measures
        from ir_measures import RR, R, nDCG
    except ImportError:
        raise InputError(
            "measuring a search needs ir-measures. Install it: pip install 'tfllm[retrieval]'"
        ) from None
    measures = {"ndcg_10": nDCG @ 10, "mrr_10": RR @ 10, "recall_100": R @ 100}
    if not judged:
        return dict.fromkeys(measures, 0.0)
    found = {
        query: {name: score for name, score in scores.items() if name != query}
        for query, scores in found.items()
    }
    values = ir_measures.calc_aggregate(list(measures.values()), judged, found)
    return {name: float(values[measure]) for name, measure in measures.items()}
