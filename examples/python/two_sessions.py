#!/usr/bin/env python3
"""Two agent sessions that talk over Conclave, played by a stock MCP client.

    pip install mcp
    conclave up                                  # in another terminal
    ./two_sessions.py --channel general

starts two `conclave bridge` processes as an agent host does, calls their tools and prints what comes
back. With two --config-dir the sessions are those of two machines. Works with mcp 1 and 2.
"""

import argparse
import asyncio
import contextlib
import json
import os

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

PUSH = "notifications/claude/channel"


class Session:
    """One agent session: its tools, and what the bridge pushes without being asked."""

    def __init__(self, mcp, pushed):
        self.mcp, self.pushed = mcp, pushed

    async def call(self, tool, **arguments):
        """Calls a tool; returns the facts of its first line and the text after it."""
        result = await self.mcp.call_tool(tool, arguments)
        (block,) = result.content
        facts, _, text = block.text.partition("\n")
        facts = json.loads(facts)
        if "error" in facts:
            raise SystemExit(f"{tool}: {facts['message']} ({facts['hint']})")
        return facts, text

    async def hear(self):
        """Waits for the next pushed message; returns its attributes and its framed text."""
        params = await asyncio.wait_for(self.pushed.get(), timeout=20)
        return params["meta"], params["content"]


@contextlib.asynccontextmanager
async def session(program, config_dir, handle):
    """Starts a bridge and opens it."""
    place = ["--config-dir", config_dir] if config_dir else []
    server = StdioServerParameters(command=program, args=[*place, "bridge", "--as", handle], env=dict(os.environ))
    pushed = asyncio.Queue()
    async with stdio_client(server) as (incoming, outgoing):
        tee_in, tee_out = anyio.create_memory_object_stream(0)

        async def tee():
            # The client library knows standard notifications only: pushes are taken out before it.
            async with tee_in:
                async for message in incoming:
                    frame = getattr(getattr(message, "message", None), "root", getattr(message, "message", None))
                    if getattr(frame, "method", None) == PUSH:
                        pushed.put_nowait(frame.params)
                    else:
                        await tee_in.send(message)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tee)
            async with ClientSession(tee_out, outgoing) as mcp:
                await mcp.initialize()
                yield Session(mcp, pushed)
            tasks.cancel_scope.cancel()


async def talk(args):
    dirs = args.config_dir or [None]
    channel = args.channel
    async with session(args.program, dirs[0], "api") as api, session(args.program, dirs[-1], "web") as web:
        tools = [tool.name for tool in (await api.mcp.list_tools()).tools]
        print("tools:", ", ".join(tools))
        for one in (api, web):
            await one.call("join_channel", channel=channel)

        sent, _ = await api.call("send_channel", channel=channel, text="The endpoint is live.")
        print("api sent", sent["id"], "and it is", sent["status"])
        about, text = await web.hear()
        print("web heard", json.dumps(about), text, sep="\n")

        who, _ = await web.call("who", channel=channel)
        print("there:", ", ".join(one["to"] for one in who["sessions"]))
        await web.call("whisper", to=about["from"], text="Thank you.", reply_to=about["msg_id"])
        about, text = await api.hear()
        print("api heard", json.dumps(about), text, sep="\n")

        _, text = await web.call("catch_up", channel=channel)
        print("history", text, sep="\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channel", default="general")
    parser.add_argument("--program", default="conclave", help="where `conclave` is [default: on PATH]")
    parser.add_argument("--config-dir", action="append", help="of the first session, and again of the second")
    asyncio.run(talk(parser.parse_args()))


if __name__ == "__main__":
    main()
