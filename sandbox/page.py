"""The page at `/`: what the sandbox was asked, charged and sent, and how to ask for faults."""

from itertools import islice

from flask import Blueprint, render_template_string, request

from .callbacks import redacted
from .faults import CATALOGUE
from .tasks import Task
from .world import World

#: how many tasks the page shows
SHOWN = 100

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="3">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sandbox</title>
<style>
  :root { color-scheme: light dark; --line: #8883; --soft: #8886; --good: #2a9d5c; --bad: #d1495b }
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem }
  body { padding: 0 1rem }
  h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem }
  p { margin: .3rem 0 } code { font: 13px ui-monospace, monospace }
  pre { background: #8881; border-radius: 6px; overflow-x: auto; padding: .7rem }
  table { border-collapse: collapse; width: 100% }
  th { color: #888; font-weight: 500; text-align: left }
  th, td { border-bottom: 1px solid var(--line); padding: .35rem .6rem .35rem 0 }
  th, td { vertical-align: top }
  td.prompt { max-width: 24rem; overflow-wrap: anywhere }
  .num { text-align: right } .none { color: #888 }
  .succeeded, .ok { color: var(--good) } .failed, .cancelled, .no { color: var(--bad) }
  .sent { display: block; white-space: nowrap }
</style>
<h1>Sandbox</h1>
<p>{% for provider in providers %}<strong>{{ provider.title }}</strong>
<code>{{ base }}/{{ provider.name }}</code>{{ " · " if not loop.last }}{% endfor %}</p>

<h2>Charged</h2>
{% if accounts %}<table><tr><th>Provider<th class="num">Tasks<th class="num">Amount<th>
<th class="num">Refunded tasks</tr>
{% for name, account in accounts.items() %}<tr><td>{{ name }}<td class="num">{{ account.tasks }}
<td class="num">{{ "%.2f"|format(account.amount) }}<td>{{ account.unit }}
<td class="num">{{ account.refunded }}</tr>{% endfor %}</table>
{% else %}<p class="none">Nothing yet.</p>{% endif %}

<h2>Active faults</h2>
{% if rules %}<table><tr><th>Id<th>Provider<th>Prompt contains<th>Left<th>Faults</tr>
{% for rule in rules %}<tr><td><code>{{ rule.id }}</code><td>{{ rule.provider or "all" }}
<td>{{ rule.match or "anything" }}<td>{{ "always" if rule.remaining is none else rule.remaining }}
<td><code>{% for name, value in rule.faults.items() %}{{ name }}{{ "=%s"|format(value)
if value is not true }} {% endfor %}</code></tr>{% endfor %}</table>
{% else %}<p class="none">None from the control API.</p>{% endif %}

<h2>Tasks{% if total > tasks|length %}: the newest {{ tasks|length }} of {{ total }}{% endif %}</h2>
{% if tasks %}<table><tr><th>Task<th>Prompt<th>Status<th class="num">Charged<th>Callbacks</tr>
{% for task in tasks %}<tr>
<td>{{ task.provider }} · {{ task.model }}<br><code>{{ task.id }}</code>
{% if task.submissions > 1 %}<br>{{ task.submissions }} submissions{% endif %}
<td class="prompt">{{ task.prompt|truncate(160) }}
<td class="{{ task.status }}">{{ task.status }}{% if task.outcome and task.outcome.code %}<br>
<code>{{ task.outcome.code }}</code>{% endif %}
{% for link in links(task) %}<br><a href="{{ link }}">image</a>{% endfor %}
<td class="num">{{ task.charge.amount }}{{ " (refunded)" if task.refunded }}
<td>{% for sent in task.callbacks %}<span class="sent">{{ sent.kind }}
<b class="{{ "ok" if (sent.status or 999) < 300 else "no" }}">{{ sent.status or sent.error }}</b>
<code>{{ redacted(sent.url) }}</code></span>{% else %}<span class="none">none</span>{% endfor %}
</tr>{% endfor %}</table>
{% else %}<p class="none">No task yet. Submit one to a base URL above.</p>{% endif %}

<h2>Asking for faults</h2>
<p>Put them into the prompt: <code>A red cube [sandbox: duplicate=5, slow=2s]</code>.
Or have them applied to coming submissions:</p>
<pre><code>curl {{ base }}/control/faults \\
  -d '{"match": "cube", "times": 1, "faults": {"duplicate": 5}}'
curl -X DELETE {{ base }}/control/faults</code></pre>
<table><tr><th>Fault<th>What happens</tr>
{% for kind in kinds %}<tr><td><code>{{ kind.spelling }}</code><td>{{ kind.meaning }}</tr>
{% endfor %}</table>
"""


def page_blueprint(world: World) -> Blueprint:
    """`GET /`."""
    routes = Blueprint("page", __name__)

    @routes.get("/")
    def show() -> str:
        tasks = list(world.store.newest_first())
        return render_template_string(
            _PAGE,
            base=_base(),
            providers=world.providers.values(),
            accounts=world.store.accounts(),
            rules=[rule for rule in world.rules.all() if rule.active],
            tasks=list(islice(tasks, SHOWN)),
            total=len(tasks),
            kinds=CATALOGUE.values(),
            links=_links,
            redacted=redacted,
        )

    return routes


def _base() -> str:
    return request.host_url.rstrip("/")


def _links(task: Task) -> list[str]:
    return task.links() if task.status == "succeeded" else []
