"""Shows the router at work: ``python -m demo``, or ``make demo``.

Starts a web server, a worker and two gateways, has SMS answered and a broadcast sent. Then one of
the gateways fails for a while, to be watched on the page Operations. Serves until Ctrl-C. Without a
terminal it ends by itself: with status 0 if every message ended as it should, else with 1.

``python -m demo kannel``, or ``make demo-kannel``, does so with a Kannel that it starts, at which
phones text in.
"""

import os
import select
import sys
import time
from shutil import rmtree
from urllib.request import urlopen

import django

from demo import kannel
from demo.processes import DemoFailed, Processes, free_port

PORT, GATEWAY_PORT = free_port(8000), free_port()
WEB, GATEWAY = f"http://127.0.0.1:{PORT}/", f"http://127.0.0.1:{GATEWAY_PORT}/"
WITH_KANNEL = sys.argv[1:] == ["kannel"]
KANNEL = kannel.Ports(*(free_port() for _ in kannel.Ports._fields))


def main():
    """Run the demo; return its exit status."""
    if WITH_KANNEL and (missing := kannel.missing()):
        print(
            f"Not installed: {', '.join(missing)}. On Debian and Ubuntu:"
            f" apt install {' '.join(kannel.PACKAGES)}"
        )
        return 1
    set_up()
    from demo.screen import GREEN, PLAIN, RED, heading, say
    from demo.settings import RUN

    problems = None
    try:
        with Processes(RUN) as processes:
            try:
                gateway = "Kannel with phones" if WITH_KANNEL else "gateway"
                heading(f"Database, web server, worker and {gateway}")
                start(processes)
                phones = start_kannel(processes, RUN / "kannel") if WITH_KANNEL else None
                say(f"  All answer; their logs are in {RUN}.")
                problems = show_kannel(processes, phones) if WITH_KANNEL else show(processes)
                if not WITH_KANNEL:
                    problems += show_outage(processes)
                for problem in problems:
                    say(f"{RED}Wrong: {problem}.{PLAIN}")
                if not problems:
                    say(f"{GREEN}Every message ended as it should.{PLAIN}")
                if is_watched():
                    serve(processes)
            except KeyboardInterrupt:
                say("\nEnding; the worker takes a few seconds.")
    except DemoFailed as err:
        say(f"\n{RED}{err}{PLAIN}")
        return 1
    if problems is None:
        return 130  # interrupted before its end
    return 1 if problems else 0


def set_up():
    """Set Django up; what is set in the environment the processes will inherit."""
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        os.environ.pop(name, None)  # Celery would prefer them to the demo's settings
    os.environ.update(
        DJANGO_SETTINGS_MODULE="demo.settings",
        DEMO_GATEWAY_URL=GATEWAY,
        DEMO_WEB_URL=WEB.rstrip("/"),
        PYTHONUNBUFFERED="1",  # the logs are complete whenever one looks
        no_proxy="127.0.0.1",
    )
    if WITH_KANNEL:
        os.environ["DEMO_SENDSMS_URL"] = f"http://127.0.0.1:{KANNEL.sendsms}/cgi-bin/sendsms"
    django.setup()


def is_watched():
    """Return whether somebody sits in front of it."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def start(processes):
    """Bring the database up to date, start the processes and wait until they answer."""
    from demo import database
    from demo.screen import say
    from demo.settings import RUN

    if database.prepare(RUN):
        say("  The database was of another version, and is replaced.")
    if not WITH_KANNEL:
        processes.start("gateway", "-m", "demo.gateway", str(GATEWAY_PORT))
        processes.wait_for(lambda: answers(f"{GATEWAY}?id=0"), 30, "the gateway")
    processes.start("web server", "manage.py", "runserver", "--noreload", str(PORT))
    log = processes.start("worker", "manage.py", "celery", "worker", "--loglevel=info")
    processes.wait_for(lambda: answers(f"{WEB}accounts/login/"), 60, "the web server")
    processes.wait_for(lambda: " ready." in log.read_text(), 60, "the worker")


def start_kannel(processes, folder):
    """Start Kannel and the phones at it, wait until all know each other, and return the phones."""
    rmtree(folder, ignore_errors=True)
    folder.mkdir()
    configuration = str(kannel.configure(folder, KANNEL, f"{WEB}kannel/"))
    status = f"http://127.0.0.1:{KANNEL.admin}/status.txt?password={kannel.ADMIN_PASSWORD}"
    processes.start("bearerbox", configuration, program=kannel.find("bearerbox"))
    processes.wait_for(lambda: answers(status), 30, "bearerbox")
    processes.start("smsbox", configuration, program=kannel.find("smsbox"))
    phones = kannel.Phones(processes.log("phones"))
    program, *options = phones.command(KANNEL.phones)
    processes.start("phones", *options, program=program, stdin=phones.stdin)
    phones.started()
    processes.wait_for(lambda: "smsbox:" in text_of(status), 30, "smsbox")
    processes.wait_for(lambda: "(online" in text_of(status), 30, "the phones")
    return phones


def text_of(url):
    """Return what a server answers at ``url``."""
    with urlopen(url, timeout=5) as answer:
        return answer.read().decode(errors="replace")


def answers(url):
    """Return whether a server answers at ``url``."""
    try:
        with urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def show(processes):
    """Do the main job in front of the user; return what ended otherwise than it should."""
    from demo import gateway
    from demo.screen import heading
    from demo.show import NUMBERS, Broadcast, Conversation

    heading(f"SMS posted to {WEB}sms/, and their replies from the gateway")
    conversation = Conversation(WEB, processes)
    conversation.run()

    without = sum(map(gateway.has_no_subscriber, NUMBERS))
    switched_off = sum(map(gateway.is_switched_off, NUMBERS))
    heading(
        f"A broadcast to {len(NUMBERS):,} people, of whom the gateway refuses"
        f" {without} for ever and {switched_off} for a while"
    )
    broadcast = Broadcast(processes)
    broadcast.run()
    return [*conversation.problems(), *broadcast.problems()]


def show_kannel(processes, phones):
    """Have the phones text in front of the user; return what ended otherwise than it should."""
    from demo.screen import heading
    from demo.show import Texting

    heading(f"SMS texted to {kannel.NUMBER}, their answers, and Kannel's reports of them")
    texting = Texting(WEB, phones, processes)
    texting.run()
    return list(texting.problems())


def show_outage(processes):
    """Have a gateway fail and come back; return what ended otherwise than it should."""
    from demo.database import LOGIN
    from demo.outage import Outage
    from demo.screen import heading, say

    heading("A gateway that fails for a while, and comes back")
    if is_watched():
        say(f"  Open {WEB}operations/ as {LOGIN} with the password {LOGIN}, beside this window.")
        say("  You will see: the incident in red, what waits, and how the rest is sent afterwards.")
        say("  Press Enter when the page is there.")
        wait_for_enter(processes)
    outage = Outage(processes, is_watched())
    outage.run()
    return list(outage.problems())


def wait_for_enter(processes):
    """Return when the user has pressed Enter."""
    while not select.select([sys.stdin], [], [], 0.2)[0]:
        processes.check()
    sys.stdin.readline()


def serve(processes):
    """Say what there is to see, and serve until Ctrl-C."""
    from demo.database import LOGIN
    from demo.screen import heading, say

    heading(f"Now open in a browser, as {LOGIN} with the password {LOGIN}:")
    say(f"  {WEB}operations/  what every backend does, and what needs a person")
    if not WITH_KANNEL:
        say(f"  {WEB}operations/failures/  who was not reached, and why; send it again")
        say(f"  {WEB}operations/messages/?search=0772000001  what one person texted and was sent")
    say(f"  {WEB}  to send an SMS of your own, and see its reply")
    say(f"  {WEB}admin/rapidsms_db_router/message/  what became of every message")
    if WITH_KANNEL:
        say(f"  {WEB}admin/kannel/deliveryreport/  what Kannel reported")
    say("Ctrl-C ends the demo.")
    while True:
        processes.check()
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
