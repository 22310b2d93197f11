"""A LangGraph graph with a node that calls a tool of an MCP server."""

from typing import Any, TypedDict

from fastmcp import Client
from langgraph.graph import END, START, StateGraph


class State(TypedDict):
    question: dict[str, int]
    answer: int


def graph(tools: Client, tool: str) -> Any:
    """``tools``: a client that is connected for as long as the graph runs."""

    async def ask(state: State) -> dict[str, int]:
        return {"answer": (await tools.call_tool(tool, state["question"])).data}

    made = StateGraph(State)
    made.add_node("ask", ask)
    made.add_edge(START, "ask")
    made.add_edge("ask", END)
    return made.compile()
