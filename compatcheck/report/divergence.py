"""How far OLD and NEW are apart behind their answers: margins of choices and next-token distributions."""

from __future__ import annotations

from compatcheck.compare.result import Comparison, Divergence
from compatcheck.report import figures
from compatcheck.report.tables import Section, Table
from compatcheck.text import significant

SHOWN = 10
"""Tokens that are shown; report.json has more."""


def margins(comparison: Comparison) -> Section | None:
    """What became of the margins of choices, and the flips that this predicts beside those seen."""
    if (found := comparison.margins) is None:
        return None
    seen, worse = (
        f"{figures.share(count, found.n)} ({figures.number(predicted, 'share')} predicted)"
        for count, predicted in ((found.changed, found.changed_predicted), (found.negative_flips, found.nfr_predicted))
    )
    sentence = (
        f"old's choice is ahead of its best rival by {found.mean_old:.3g} nats in old and {found.mean_new:.3g} in new "
        f"on average (median {found.median_old:.3g} and {found.median_new:.3g}), over {found.n:,} choices; by instance "
        f"it moved by {found.spread:.3g} (standard deviation). Choices that changed: {seen}; negative flips: {worse}. "
        "Predicted is as if every move that was seen were as likely at every margin"
    )
    return Section("Margins", note=sentence)


def section(comparison: Comparison) -> Section | None:
    """The divergence in a sentence, and the tokens that diverge the most."""
    if comparison.kl is None:
        return None
    tokens = worst_tokens(comparison, SHOWN)
    note = _divergence(comparison, comparison.kl)
    return Section("Divergence", tokens if tokens.rows else None, note)


def _divergence(comparison: Comparison, found: Divergence) -> str:
    """The divergence of next-token distributions in a sentence."""
    mean, ratio, level = comparison.metrics["kl"], found.perplexity_ratio, figures.level(comparison)
    same = f"{figures.estimate('agreement', found.same_top)} ({figures.interval('agreement', found.same_top)})"
    bounds = f" ({level}: {figures.interval('kl', mean)})" if mean.low is not None else ""
    shares = ", ".join(
        f"{'max' if name == 'max' else f'{name} %'} {figures.number(value, 'score')}"
        for name, value in found.percentiles.items()
    )
    ratio_bounds = f" ({level}: {ratio.low:.4g} – {ratio.high:.4g})" if ratio.low is not None else ""
    return (
        f"KL(old ‖ new) {figures.estimate('kl', mean)} nats a token{bounds} over {found.tokens:,} tokens of "
        f"{found.documents:,} documents ({found.texts}); by token {shares}; same first token {same}; perplexity "
        f"{significant(found.perplexity_old, 4)} → {significant(found.perplexity_new, 4)}, ratio {ratio.value:.4g}"
        f"{ratio_bounds}"
    )


def worst_tokens(comparison: Comparison, count: int) -> Table:
    """The tokens whose distributions diverge the most, a row each; none where that was not measured."""
    rows = []
    for each in comparison.kl.worst[:count] if comparison.kl is not None else ():
        chance = f"{each.p_old:.2g} → {each.p_new:.2g}"
        old = f"{_token(each.choice_old)} {each.choice_old_p_old:.2g} → {each.choice_old_p_new:.2g}"
        new = f"{_token(each.choice_new)} {each.choice_new_p_old:.2g} → {each.choice_new_p_new:.2g}"
        context = f"…{each.before[-40:]}⟦{each.token}⟧"
        rows.append((figures.number(each.kl, "score"), each.doc_id, context, chance, old, new))
    columns = (
        ("KL", "number"), ("id", "name"), ("token in its context", "name"), ("its probability", "name"),
        ("old expected", "name"), ("new expected", "name"),
    )  # fmt: skip
    return Table(columns, tuple(rows))


def _token(text: str) -> str:
    return f"⟦{text}⟧"
