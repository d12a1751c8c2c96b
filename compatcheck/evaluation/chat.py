"""Conversations put into a model's chat template, and what is said of a template that does not take them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.conversation import in_texts
from compatcheck.errors import InputError, one_line
from compatcheck.references import read_json
from compatcheck.tasks import LoadedTask
from compatcheck.tasks.description import fingerprint

if TYPE_CHECKING:
    from lm_eval.api.model import LM

_FILES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")


class Chat:
    """What lm-eval calls for the prompt of every document. ``notes`` are plain sentences about it."""

    def __init__(self, engine: LM) -> None:
        self._engine: Any = engine
        self.served = bool(getattr(engine, "served", False))
        """A server gets the conversation itself, contents that are no text among it."""
        self._checked = False
        self.notes: tuple[str, ...] = ()

    def __call__(
        self, history: list[dict[str, Any]], add_generation_prompt: bool = True, tools: list[Any] | None = None
    ) -> Any:
        """The prompt that a conversation makes: a text, or for a server the conversation itself. Raises InputError:
        there is no template, or it refuses the conversation or fails on it."""
        history = history if self.served else in_texts(history)
        prompt = self._render(history, add_generation_prompt, tools)
        if isinstance(prompt, str) and not prompt:
            raise InputError(f"{self._where()}: the chat template makes an empty prompt")
        if tools and not self.served and prompt == self._render(history, add_generation_prompt, None):
            raise InputError(f"{self._where()}: the chat template leaves out `tools`, so the model would not know them")
        if not self._checked and any(message["role"] == "system" for message in history):
            self._checked = True
            # lm-eval drops system messages that a template refuses, and some templates leave them out by themselves
            without = [message for message in history if message["role"] != "system"]
            try:
                same = self._render(without, add_generation_prompt, tools) == prompt
            except Exception:  # it needs a system message
                same = False
            if same:
                self.notes = (
                    f"{self._where()}: the chat template takes no system message: what stands there (a task's "
                    "description, --system) is left out of the prompts.",
                )
        return prompt

    def _render(self, history: list[dict[str, Any]], add_generation_prompt: bool, tools: list[Any] | None) -> Any:
        further = {"tools": tools} if tools and not self.served else {}
        try:
            return self._engine.apply_chat_template(history, add_generation_prompt=add_generation_prompt, **further)
        except InputError:
            raise
        except Exception as error:  # a template is a program of the model's author: anything may come out of it
            if "chat_template is not set" in str(error):
                raise InputError(
                    f"{self._engine.tokenizer_name}: no chat template ({', '.join(_FILES)}); leave out "
                    "--apply-chat-template, or name a tokenizer that has one: --engine-arg tokenizer=FOLDER"
                ) from error
            roles = ", ".join(str(message["role"]) for message in history[:4]) + (", …" if len(history) > 4 else "")
            raise InputError(
                f"{self._where()}: the chat template does not take this conversation ({roles}): {one_line(error)}"
            ) from error

    def _where(self) -> str:
        """The file of the tokenizer that holds its chat template; where it is no folder, its name."""
        name = self._engine.tokenizer_name
        return str(_file(name) or name)


def rendered(
    tokenizer: Any, history: list[dict[str, Any]], add_generation_prompt: bool = True, tools: list[Any] | None = None
) -> str:
    """The prompt that a tokenizer's template makes of a conversation, without its model."""
    import jinja2

    options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": add_generation_prompt}
    options |= {"tools": tools} if tools else {}
    options["continue_final_message"] = not add_generation_prompt
    try:
        return str(tokenizer.apply_chat_template(history, **options))
    except jinja2.exceptions.TemplateError:  # as lm-eval does it: the template knows no system role
        without = [message for message in history if message["role"] != "system"]
        return str(tokenizer.apply_chat_template(without, **options))


def takes_template(said: bool | None, loaded: LoadedTask, engine: Any) -> bool:
    """Whether prompts go through the model's chat template: as the user says, else those of conversations, where the
    model has one."""
    return said if said is not None else loaded.conversational and bool(engine.has_template)


def template_of(engine: LM) -> str:
    """Fingerprint of the chat template that an engine uses: of its text, or where only a server has it "server"."""
    lm: Any = engine
    file = _file(lm.tokenizer_name)
    if file is not None:
        jinja = file.suffix == ".jinja"
        return fingerprint(file.read_text(encoding="utf-8") if jinja else read_json(file).get("chat_template"))
    prompt = lm.apply_chat_template([{"role": "user", "content": "?"}], add_generation_prompt=True)
    return fingerprint(prompt) if type(prompt) is str else "server"  # what a server gets is no plain text


def has_template(folder: Path) -> bool:
    """Whether a model's folder has a chat template, told from its files."""
    file = _file(str(folder))
    if file is None or file.name != _FILES[-1]:
        return file is not None
    return bool(read_json(file).get("chat_template"))  # null in what converters write of a base model


def _file(name: str) -> Path | None:
    return next((Path(name) / file for file in _FILES if (Path(name) / file).is_file()), None)
