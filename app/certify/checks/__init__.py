"""The checks, in the order of the report."""

from app.certify.checks import account, queries, results, storage, submits, task_list
from app.certify.registry import Check

SUBJECTS = {
    "Keys, errors and limits": account.subject,
    "Submits": submits.subject,
    "Tasks": queries.subject,
    "The task list": task_list.subject,
    "Results": results.subject,
    "Temporary storage": storage.subject,
}
CHECKS: tuple[Check, ...] = tuple(check for subject in SUBJECTS.values() for check in subject.checks)
