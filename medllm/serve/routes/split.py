"""The addresses that ask a model, where two models answer."""

from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response

from medllm.serve.callers.access import CALLER
from medllm.serve.model.canary import Canary
from medllm.serve.routes.answers import AnswerRoutes


@dataclass(frozen=True, slots=True)
class Split:
    """Each request goes to one of the two models, by who asks."""

    served: AnswerRoutes
    second: AnswerRoutes
    canary: Canary

    async def chat(self, request: Request) -> Response:
        """The next message of a conversation."""
        return await self._of(request).chat(request)

    async def complete(self, request: Request) -> Response:
        """What follows a text, or each of several."""
        return await self._of(request).complete(request)

    async def generate(self, request: Request) -> Response:
        """The answer to one question, and what its review found; `X-Model` names the model."""
        routes = self._of(request)
        response = await routes.generate(request)
        response.headers["X-Model"] = routes.model_id
        return response

    def _of(self, request: Request) -> AnswerRoutes:
        """While the second one is not ready the served one answers all, under its own name."""
        is_second = self.canary.takes(request.scope[CALLER].name)
        return self.second if is_second and self.second.answering.is_up else self.served
