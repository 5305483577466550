"""The one exception whose message is meant for the person at the keyboard."""


class UserError(Exception):
    """Bad input, said in one line: which file, what is wrong, what to do.

    Scripts print the message as the last line on stderr and exit with status 1
    (:func:`policylens.console.main`); a traceback is for bugs, never for bad input.
    """
