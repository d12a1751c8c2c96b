"""Servers on loopback for tests: one that misbehaves as a prompt says, one that answers with a real tiny model."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = tuple[int, Any]
"""HTTP status and JSON body."""


class Server(ThreadingHTTPServer):
    """Knows what it was asked and how many requests it served at once."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.tries: Counter[str] = Counter()
        self.times: dict[str, list[float]] = {}
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def paths(self) -> Counter[str]:
        return Counter(path for path, _ in self.asked)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._count({})
        self.get()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._count(body)
        with self.server.lock:
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        try:
            self.post(body)
        finally:
            with self.server.lock:
                self.server.now -= 1

    def _count(self, body: dict[str, Any]) -> None:
        with self.server.lock:
            self.server.asked.append((self.path, body))
            self.server.headers.append(dict(self.headers))

    def get(self) -> None:
        raise NotImplementedError

    def post(self, body: dict[str, Any]) -> None:
        raise NotImplementedError

    def send(
        self, status: int, body: Any, headers: dict[str, str] | None = None, kind: str = "application/json"
    ) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(2)


@contextlib.contextmanager
def serving(handler: type[Handler]) -> Iterator[Server]:
    server = Server(handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def completion(text: str) -> dict[str, Any]:
    return {"object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": "stop"}]}


def chat(text: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}


class Hostile(Handler):
    """Behaves as the first word of the prompt says; ``word:n`` misbehaves n times for that prompt, then answers.

    What it does with the trivial request that the engine tries when all fails, ``canary`` says.
    """

    canary = "good"

    def get(self) -> None:
        if self.path == "/v1/models":
            self.send(200, {"data": [{"id": "m", "created": 7, "permission": [time.time()], "owned_by": "tests"}]})
        else:
            self.send(404, {"error": {"message": "no such page"}})

    def post(self, body: dict[str, Any]) -> None:
        prompt = body["prompt"]
        with self.server.lock:
            self.server.tries[prompt] += 1
            self.server.times.setdefault(prompt, []).append(time.monotonic())
            tries = self.server.tries[prompt]
        prompt = self.canary if prompt == "Hello" else prompt
        behaviour, _, times = prompt.split()[0].partition(":")
        if times and tries > int(times):
            behaviour = "good"
        prompt = body["prompt"]
        act: Callable[[str], None] = getattr(self, f"be_{behaviour.replace('-', '_')}")
        act(prompt)

    def be_good(self, prompt: str) -> None:
        self.send(200, completion(f"said: {prompt}"))

    def be_slow(self, prompt: str) -> None:
        time.sleep(0.15)
        self.be_good(prompt)

    def be_busy(self, prompt: str) -> None:
        self.send(429, {"error": {"message": "rate limit reached", "code": "rate_limit_exceeded"}})

    def be_busy_until(self, prompt: str) -> None:
        self.send(429, {"error": {"message": "rate limit reached"}}, {"Retry-After": "0.4"})

    def be_busy_all_day(self, prompt: str) -> None:
        self.send(429, {"error": {"message": "daily limit"}}, {"Retry-After": "86400"})

    def be_broken(self, prompt: str) -> None:
        self.send(500, b"<html>boom</html>", kind="text/html")

    def be_malformed(self, prompt: str) -> None:
        self.send(200, b'{"choices": [{"text": "half')

    def be_nested(self, prompt: str) -> None:
        self.send(200, b"[" * 200_000)

    def be_cut(self, prompt: str) -> None:
        self.hang_up()

    def be_cut_short(self, prompt: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"choices"')
        self.hang_up()

    def be_text(self, prompt: str) -> None:
        self.send(200, json.dumps(completion(f"said: {prompt}")).encode(), kind="text/plain")

    def be_page(self, prompt: str) -> None:
        self.send(200, b"<html><body>Welcome</body></html>", kind="text/html")

    def be_empty(self, prompt: str) -> None:
        self.send(200, {"choices": []})

    def be_textless(self, prompt: str) -> None:
        self.send(200, {"choices": [{"text": None}]})

    def be_other(self, prompt: str) -> None:
        self.send(200, ["not", "an", "object"])

    def be_huge(self, prompt: str) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(64):
                self.wfile.write(b" " * (1 << 16))
        self.close_connection = True

    def be_silent(self, prompt: str) -> None:
        self.server.over.wait(20)
        self.hang_up()

    def be_refusing(self, prompt: str) -> None:
        key = self.headers.get("Authorization", "")
        self.send(400, {"error": {"message": f"prompt too long\x1b[31m\n(you sent {key})", "code": 400}})

    def be_moved(self, prompt: str) -> None:
        self.send(307, {}, {"Location": "http://127.0.0.1:9/v1/completions"})

    def be_denied(self, prompt: str) -> None:
        self.send(401, {"error": {"message": f"Incorrect API key provided: {self.headers.get('Authorization')}"}})

    def be_unknown(self, prompt: str) -> None:
        self.send(404, {"error": {"message": "The model `m` does not exist.", "type": "NotFoundError", "code": 404}})


class Model(Handler):
    """A well-behaved server around a real tiny model; subclasses leave parts away."""

    folder: Path
    tokenizes = True
    least = 0
    """Smallest max_tokens accepted."""
    takes_ids = True
    echoes = True
    completes = True
    chats = True
    strings = True
    """Whether the strings of echoed tokens are those of the text (byte-level tokens otherwise)."""
    name = "tiny"
    _loaded: Any = None

    @classmethod
    def load(cls) -> tuple[Any, Any]:
        if cls._loaded is None:
            from transformers import AutoModelForCausalLM, AutoTokenizer

            model = AutoModelForCausalLM.from_pretrained(cls.folder, dtype="float32").eval()
            cls._loaded = (AutoTokenizer.from_pretrained(cls.folder), model, threading.Lock())
        return cls._loaded

    def get(self) -> None:
        if self.path != "/v1/models":
            return self.send(404, {"detail": "Not Found"})
        return self.send(200, {"data": [{"id": self.name, "owned_by": "tests", "created": int(time.time())}]})

    def post(self, body: dict[str, Any]) -> None:
        if self.path == "/tokenize" and self.tokenizes:
            tokens = self.load()[0](body["prompt"])["input_ids"]
            return self.send(200, {"count": len(tokens), "tokens": tokens, "max_model_len": 2048})
        if self.path == "/v1/chat/completions" and self.chats:
            prompt = "".join(f"{turn['role']}: {turn['content']}\n" for turn in body["messages"])
            return self.send(200, chat(self.write(prompt, body)))
        if self.path != "/v1/completions" or not self.completes:
            return self.send(404, {"detail": "Not Found"})
        if isinstance(body["prompt"], list) and isinstance(body["prompt"][0], list | str):
            (body["prompt"],) = body["prompt"]  # a batch of one
        if body["model"] != self.name:
            return self.send(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
        if body["max_tokens"] < self.least:
            return self.send(400, {"error": {"message": f"max_tokens must be at least {self.least}"}})
        if isinstance(body["prompt"], list) and not self.takes_ids:
            return self.send(422, {"detail": [{"loc": ["body", "prompt"], "msg": "str type expected"}]})
        if not body.get("echo"):
            return self.send(200, completion(self.write(body["prompt"], body)))
        return self.send(200, self.echo(body))

    def write(self, prompt: str, body: dict[str, Any]) -> str:
        import torch

        tokenizer, model, lock = self.load()
        given = tokenizer(prompt, return_tensors="pt")
        with lock, torch.inference_mode():
            out = model.generate(**given, max_new_tokens=body["max_tokens"], do_sample=False, pad_token_id=0)
        text = tokenizer.decode(out[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
        for stop in body.get("stop", []):
            text = text.split(stop)[0]
        return str(text)

    def echo(self, body: dict[str, Any]) -> dict[str, Any]:
        import torch

        tokenizer, model, lock = self.load()
        tokens = body["prompt"] if isinstance(body["prompt"], list) else tokenizer(body["prompt"])["input_ids"]
        with lock, torch.inference_mode():
            logprobs = model(torch.tensor([tokens])).logits[0].float().log_softmax(-1)
        text = tokenizer.decode if self.strings else tokenizer.convert_ids_to_tokens
        strings = [text(token) for token in tokens]
        values: list[Any] = [None]
        tops: list[Any] = [None]
        for place, token in enumerate(tokens[1:]):
            best = int(logprobs[place].argmax())
            values.append(float(logprobs[place, token]))
            tops.append({f"{best}": float(logprobs[place, best]), f"{token}": values[-1]})
        if not self.echoes:  # as servers do that ignore echo: the new token alone
            strings, values, tops = ["x"], [-1.0], [{"x": -1.0}]
        elif body["max_tokens"]:
            best = int(logprobs[-1].argmax())
            strings.append(text(best))
            values.append(float(logprobs[-1, best]))
            tops.append({f"{best}": values[-1]})
        shown = {"tokens": strings, "token_logprobs": values, "top_logprobs": tops}
        answer = completion("".join(strings))
        answer["choices"][0]["logprobs"] = shown
        return answer | {"usage": {"prompt_tokens": len(tokens), "completion_tokens": body["max_tokens"]}}
