"""Names of snapshot files."""


def fill_template(template, snapshot, counter):
    """Replace $pid, $timestamp and $counter in a template.

    The timestamp has neither spaces nor colons; the counter has 4 digits.
    """
    return (template
            .replace("$pid", str(snapshot.pid))
            .replace("$timestamp",
                     snapshot.timestamp.strftime("%Y-%m-%d-%H-%M-%S"))
            .replace("$counter", "%04d" % counter))
