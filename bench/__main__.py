"""`python -m bench [fanout latency rest memory client data]`: run and print."""

import sys

from bench import client, data, fanout, latency, memory, rest

ALL = {
    "fanout": fanout,
    "latency": latency,
    "rest": rest,
    "memory": memory,
    "client": client,
    "data": data,
}


if __name__ == "__main__":
    for name in sys.argv[1:] or ALL:
        print(f"\n{(ALL[name].__doc__ or '').splitlines()[0]}", flush=True)
        print("\n".join(ALL[name].main()), flush=True)
