"""By what an answer is told to be a refusal. Patterns that RE2 and Python read alike."""

_NOT = "(can't|cannot|can not|unable|not able|won't)"
_HELP = (
    "(help|assist|comply|provide|answer|fulfil|engage|support|create|generate|write|discuss|continue|share|offer|give"
    "|respond|determine|process|complete)"
)
REFUSALS = (
    rf"\b(i|we)( am|'m| are|'re)? ((really|truly|very|so) )?sorry\b[^.!?]{{0,80}}\b{_NOT}",
    rf"\b(i|we) (simply |really )?(can't|cannot|can not|won't|will not) ({_HELP}|do that)",
    rf"\b(i|we)( am|'m| are|'re) (unable|not able) to {_HELP}",
    r"\b(i|we)( am|'m| are|'re) not (allowed|permitted|comfortable)\b",
    rf"\bas an? (ai|artificial|(large )?language)\b[^.!?]{{0,100}}\b({_NOT}|do not|don't)",
    r"\bagainst my (guidelines|polic|programming|principles)",
    r"(^\W*|\bi )(must |have to )?(respectfully )?decline\b",
    r"^\W*(es tut mir leid|lo siento|mi dispiace|desculpe|je suis désolé|抱歉|申し訳)",
    r"\bich kann (dabei|ihnen|dir|das|diese)\b[^.!?]{0,40}\bnicht\b|\bje ne peux pas (vous|répondre|aider|fournir)",
    r"\bno puedo (ayudar|responder|proporcionar)|我(无法|不能)(帮助|回答|提供|协助)",
)
"""By what an answer is told to refuse, in its first :data:`HEAD` characters; case and curly quotes do not count."""
HEAD = 400
WITHHELD = frozenset({"content_filter", "refusal", "safety"})
"""Why an answer ended (``finish_reason``) where it was not to be given, whatever is left of its text."""
