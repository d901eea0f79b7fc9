"""The formulas, checked on histories whose numbers were worked out by hand."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_sync.metrics import Check, Commit, History, Review, measure
from metrics_sync.metrics.history import BotRule
from metrics_sync.metrics.hours import measure_hours
from tests.histories import AUTHOR_ID, hour, tell
from tests.random_histories import LISTS, comments, events, histories, reviews, runs, statuses

#: Each line: what happened; the expected numbers; how they come about where it is not plain.
HISTORIES = [
    # Who counts.
    pytest.param(
        "0 author pushes a", {"rounds": 0, "asked": 0, "after": 0, "fix": None}, id="none"
    ),
    pytest.param(
        "0 author pushes a; 1 author comments a; 2 author pushes b",
        {"first": None, "after": 0},
        id="own review",
    ),
    pytest.param(
        "0 author pushes a; 1 app[bot] asks a; 2 author pushes b",
        {"first": None, "asked": 0, "rounds": 0},
        id="bot by its name",
    ),
    pytest.param(
        "0 author pushes a; 1 robot asks a; 2 author pushes b",
        {"first": None, "asked": 0},
        id="bot by GitHub's word",
    ),
    pytest.param(
        "0 author pushes a; 1 nightly asks a; 2 author pushes b",
        {"first": None, "asked": 0},
        id="bot by the team's list",
    ),
    pytest.param(
        "0 author pushes a; 1 robot approves a; 3 ann approves a",
        {"first": 3, "after": 0},
        id="bot before a person",
    ),
    pytest.param(
        "0 author pushes a; 1 ghost asks a; 2 author pushes b",
        {"first": 1, "rounds": 1, "fix": "1.00", "after": 1},
        id="ghost is somebody",
    ),
    pytest.param(
        "0 author pushes a; 1 ann starts a; 2 author pushes b", {"first": None}, id="pending"
    ),
    # Rounds and answers.
    pytest.param(
        "0 author pushes a; 2 ann asks a; 3 author pushes b; 4 ann approves b",
        {"first": 2, "rounds": 1, "asked": 1, "fix": "1.00", "after": 1},
        id="asked, fixed, approved",
    ),
    pytest.param(
        "0 author pushes a; 2 ann asks a",
        {"rounds": 0, "asked": 1, "fix": None},
        id="never answered",
    ),
    # Ann waits 3 h, Bob 2 h.
    pytest.param(
        "0 author pushes a; 2 ann asks a; 3 bob asks a; 5 author pushes b",
        {"rounds": 1, "asked": 2, "fix": "2.50"},
        id="two reviewers, one fix",
    ),
    # Ann waits 0.5 h, Bob 4 h.
    pytest.param(
        "0 author pushes a; 2 ann asks a; 2.5 author pushes b; 3 bob asks b; 7 author pushes c",
        {"rounds": 2, "asked": 2, "fix": "2.25", "after": 2},
        id="two rounds",
    ),
    pytest.param(
        "0 author pushes a; 2 ann asks a; 3 author pushes b; 5 ann asks b",
        {"rounds": 1, "asked": 2, "fix": "1.00"},
        id="second request not answered",
    ),
    pytest.param(
        "0 author pushes a; 2 ann asks a; 3 ann asks a; 4 ann asks a; 6 author pushes b",
        # She waits 4, 3 and 2 h.
        {"rounds": 1, "asked": 3, "fix": "3.00"},
        id="one reviewer asks three times",
    ),
    pytest.param(
        "0 author pushes a; 2 ann comments a; 3 ann asks a; 4 author pushes b",
        {"first": 2, "rounds": 1, "fix": "1.00", "after": 1},
        id="comment before the request",
    ),
    pytest.param(
        "0 author pushes a; 1 ann approves a; 2 author pushes b",
        {"rounds": 0, "asked": 0, "after": 1},
        id="approval is no request",
    ),
    pytest.param(
        "0 author pushes a; 1 ann approves a; 2 bob asks a; 3 author pushes b; 4 bob approves b",
        {"first": 1, "rounds": 1, "asked": 1, "fix": "1.00", "after": 1},
        id="approval, then a request",
    ),
    pytest.param(
        "0 author pushes a; 2 ann asks a; 2 author pushes b",
        {"rounds": 1, "fix": "0.00", "after": 1, "corrected": 1},
        id="commit in the second of the request, behind the reviewed one",
    ),
    pytest.param(
        "0 author pushes a; 2 ann asks x; 2 author pushes b",
        {"rounds": 0, "fix": None, "after": 0},
        id="commit in the second of the request, reviewed commit gone",
    ),
    # Bob saw b, so it is Ann's answer alone: 3 h.
    pytest.param(
        "0 author pushes a; 2 ann asks a; 5 author pushes b; 5 bob asks b",
        {"rounds": 1, "asked": 2, "fix": "3.00", "corrected": 0},
        id="commit in the second of the next request answers the one before",
    ),
    pytest.param(
        "0 author pushes a; 2 ann asks x; 5 author pushes b; 5 bob asks y",
        {"rounds": 1, "asked": 2, "fix": "3.00"},
        id="the same, by dates alone",
    ),
    pytest.param(
        "0 author pushes a; 2 ann asks x; 6 author pushes b; 5 bob asks y",
        {"rounds": 1, "asked": 2, "fix": "2.50"},
        id="commit after the next request answers both",
    ),
    # Dismissed and asked again.
    pytest.param(
        "0 author pushes a; 2 ann asks a; 3 author pushes b; 4 bob dismisses ann",
        {"rounds": 1, "asked": 1, "fix": "1.00", "recovered": 1, "unknown": 0},
        id="dismissed request, known for what it was",
    ),
    pytest.param(
        "0 author pushes a; 2 ann asks a; 3 author pushes b; 4 bob forgets ann",
        {"first": 2, "rounds": 0, "asked": 0, "recovered": 0, "unknown": 1},
        id="dismissed request that nobody told",
    ),
    pytest.param(
        "0 author pushes a; 2 ann approves a; 3 bob dismisses ann; 4 ann approves a",
        {"rounds": 0, "asked": 0, "recovered": 1, "first": 2},
        id="dismissed approval",
    ),
    # Ann's dismissed request and Bob's new one are answered by one commit each: 1 h, 2 h.
    pytest.param(
        "0 author pushes a; 2 ann asks a; 3 author pushes b; 4 bob dismisses ann; "
        "5 bob asks b; 7 author pushes c; 8 bob approves c",
        {"rounds": 2, "asked": 2, "fix": "1.50", "after": 2},
        id="dismissed, then requested by another",
    ),
    # What came after the first review.
    pytest.param(
        "0 author pushes a; 1 author pushes b; 2 ann comments b; 3 author pushes c d",
        {"after": 2, "basis": "reviewed commit"},
        id="commits before and after",
    ),
    # b was committed at hour 1 and pushed after the review of a: Ann had not seen it.
    pytest.param(
        "0 author pushes a; 1 author pushes b; 2 ann comments a",
        {"after": 1, "basis": "reviewed commit"},
        id="committed before, pushed after",
    ),
    # The author's clock is 5 h fast, so a seems later than the review that saw it.
    pytest.param(
        "5 author pushes a; 2 ann comments a",
        {"after": 0, "basis": "reviewed commit"},
        id="fast clock",
    ),
    # The author's clock is a day slow.
    pytest.param(
        "0 author pushes a; 2 ann comments a; -20 author pushes b",
        {"after": 1, "basis": "reviewed commit"},
        id="slow clock",
    ),
    pytest.param(
        "0 author pushes a; 2 ann asks a; -20 author pushes b; 9 ann merges",
        {"rounds": 1, "fix": "0.00", "corrected": 1},
        id="slow clock answers all the same",
    ),
    pytest.param(
        "0 author pushes a; 2 ann asks b; -20 author pushes b; 9 ann merges",
        {"rounds": 0, "fix": None, "corrected": 0},
        id="slow clock of the reviewed commit itself",
    ),
    # It cannot have come after the merge at 9: 7 h, not 48.
    pytest.param(
        "0 author pushes a; 2 ann asks a; 50 author pushes b; 9 ann merges",
        {"rounds": 1, "fix": "7.00", "corrected": 1, "last_commit": "0.00"},
        id="clock that is ahead of the merge",
    ),
    # a was seen by Ann, whatever its clock says.
    pytest.param(
        "5 author pushes a; 2 ann asks a; 9 ann merges",
        {"rounds": 0, "asked": 1, "fix": None},
        id="fast clock of the reviewed commit answers nothing",
    ),
    # Who answers.
    pytest.param(
        "0 author pushes a; 2 ann asks a; 3 author updates m; 20 author pushes b; 22 ann merges",
        {"rounds": 1, "fix": "18.00", "after": 1, "merges": 1, "last_commit": "2.00"},
        id="merge of the base is no answer",
    ),
    pytest.param(
        "0 author pushes a; 1 author pushes s; 2 ann asks a; 3 author joins m s; 9 ann merges",
        {"rounds": 1, "fix": "0.00", "after": 2, "merges": 0, "last_commit": "6.00"},
        id="merge of a branch that is listed is work",
    ),
    pytest.param(
        "0 author pushes a; 2 ann asks a; 3 author updates m; 9 ann merges",
        {"rounds": 0, "asked": 1, "fix": None, "after": 0, "merges": 1},
        id="nothing but a merge of the base",
    ),
    pytest.param(
        "0 author pushes a; 2 ann asks a; 3 robot pushes b; 4 fix[bot] pushes c; "
        "8 author pushes d; 9 ann merges",
        {"rounds": 1, "fix": "6.00", "after": 1, "bot_commits": {"type": 1, "suffix": 1}},
        id="a bot's commit is no answer",
    ),
    pytest.param(
        "0 author pushes a; 2 ann asks a; 3 carl pushes b; 9 ann merges",
        {"rounds": 1, "fix": "1.00", "after": 1, "bot_commits": {}},
        id="a colleague's commit is one",
    ),
    # The rebase made a, b anew at hour 6; the reviewed commits are gone, so dates decide.
    pytest.param(
        "0 author pushes a b; 2 ann asks b; 6 author -a; 6 author -b; 6 author pushes a2 b2 c",
        {"after": 3, "basis": "committer date", "rounds": 1, "fix": "4.00"},
        id="rebase after review",
    ),
    pytest.param(
        "0 author pushes a; 1 author -a; 1 author pushes a2; 2 ann approves a2",
        {"after": 0, "basis": "reviewed commit"},
        id="rebase before review",
    ),
    pytest.param(
        "0 author pushes a b c; 2 ann asks c; "
        "5 author -a; 5 author -b; 5 author -c; 5 author pushes s",
        {"after": 1, "basis": "committer date", "rounds": 1, "fix": "3.00"},
        id="squashed into one",
    ),
    pytest.param(
        "0 author pushes a b; 2 ann asks b; 4 author -b; 4 author pushes b2",
        {"after": 1, "basis": "committer date"},
        id="last commit amended",
    ),
    pytest.param(
        "0 author pushes a b; 2 ann comments a; 2 bob comments b; 3 author pushes c",
        {"after": 1},
        id="two first reviews at once: the one that saw most",
    ),
    # Ann began on a and submitted after b was pushed: GitHub names a, and b counts.
    pytest.param(
        "0 author pushes a; 1 author pushes b; 2 ann comments a; 3 author pushes c",
        {"after": 2},
        id="review begun on an older commit",
    ),
    # A stacked pull request lists its parent's commits first, which Ann saw there.
    pytest.param(
        "-9 author pushes p q; 0 author pushes a; 1 ann asks a; 2 author pushes b",
        {"after": 1, "rounds": 1, "fix": "1.00"},
        id="stacked on another's commits",
    ),
    pytest.param(
        "0 author pushes a; 1 ann asks x; 2 author pushes b",
        {"after": 1, "basis": "committer date"},
        id="reviewed commit of nowhere",
    ),
    # Draft phases.
    pytest.param(
        "0 author pushes a; 5 author readies; 7 ann approves a; 9 ann merges",
        {"ready": 5, "wait": "2.00", "review": "7.00", "draft": "5.00"},
        id="opened as a draft",
    ),
    pytest.param(
        "0 author pushes a; 7 ann approves a; 9 ann merges",
        {"ready": 0, "wait": "7.00", "review": "7.00", "draft": "0.00"},
        id="never a draft",
    ),
    pytest.param(
        "0 author pushes a; 1 author drafts; 5 author readies; 7 ann approves a; 9 ann merges",
        {"ready": 0, "wait": "3.00", "review": "7.00", "draft": "4.00"},
        id="a draft later: 1 h and 2 h",
    ),
    pytest.param(
        "0 author pushes a; 2 author readies; 3 author drafts; 8 author readies; 9 ann approves a; "
        "10 ann merges",
        {"ready": 2, "wait": "2.00", "draft": "7.00"},
        id="a draft twice: 1 h and 1 h",
    ),
    pytest.param(
        "0 author pushes a; 2 ann comments a; 5 author readies; 9 ann merges",
        {"ready": 5, "wait": None, "review": "2.00", "response": None, "early": 2},
        id="reviewed as a draft only",
    ),
    pytest.param(
        "0 author pushes a; 2 ann comments a; 5 author readies; 8 bob comments a; 9 ann merges",
        {"first": 2, "wait": "3.00", "review": "2.00", "response": 8, "early": 2},
        id="reviewed as a draft, and once it was ready",
    ),
    pytest.param(
        "0 author pushes a; 1 bob remarks; 2 author readies; 4 bob remarks; 7 ann approves a; "
        "9 ann merges",
        {"early": 1, "response": 4, "wait": "5.00", "first_approval": "5.00"},
        id="a remark on a draft is early feedback",
    ),
    pytest.param(
        "0 author pushes a; 1 bob remarks; 7 ann approves a; 9 ann merges",
        {"early": None, "response": 1},
        id="a remark on what is ready is a response",
    ),
    pytest.param(
        "0 author pushes a; 5 author readies; 5 ann approves a; 9 ann merges",
        {"wait": "0.00", "early": None},
        id="reviewed in the second in which it became ready",
    ),
    pytest.param(
        "0 author pushes a; 5 author drafts; 5 ann approves a; 6 author readies; 9 ann merges",
        {"wait": None, "early": 5, "first_approval": "5.00"},
        id="reviewed in the second in which it became a draft",
    ),
    pytest.param(
        "0 author pushes a; 9 author drafts; 9 ann approves a; 9 ann merges",
        {"wait": None, "early": 9, "approval": "0.00"},
        id="reviewed in the second of the merge, in which it became a draft",
    ),
    pytest.param(
        "0 author pushes a; 2 ann approves a; 9 ann merges; 10 author drafts; 11 author readies",
        {"draft": "0.00", "wait": "2.00", "later": {"events": 2}},
        id="a draft after the merge",
    ),
    # First response.
    pytest.param(
        "0 author pushes a; 1 author remarks; 2 robot remarks; 3 ann remarks; 4 bob approves a",
        {"response": 3, "first": 4, "total": 3},
        id="a comment answers first",
    ),
    pytest.param(
        "0 author pushes a; 3 ann approves a; 4 bob remarks",
        {"response": 3},
        id="a review answers first",
    ),
    pytest.param(
        "0 author pushes a; 1 ci[bot] remarks", {"response": None, "total": 1}, id="nobody"
    ),
    # Approval and merge.
    pytest.param(
        "0 author pushes a; 2 ann approves a; 10 author merges",
        {"approval": "8.00", "cycle": "10.00", "first_approval": "2.00", "unapproved": False},
        id="approved, then merged",
    ),
    pytest.param(
        "0 author pushes a; 2 ann approves a; 6 bob approves a; 10 author merges",
        {"approval": "8.00"},
        id="two approvals stand: since the first",
    ),
    pytest.param(
        "0 author pushes a; 2 ann approves a; 4 bob dismisses ann; 6 bob approves a; 10 ann merges",
        {"approval": "4.00", "first_approval": "2.00"},
        id="one of two approvals stands",
    ),
    pytest.param(
        "0 author pushes a; 2 ann approves a; 6 ann approves a; 10 author merges",
        {"approval": "8.00"},
        id="approved again without a break",
    ),
    pytest.param(
        "0 author pushes a; 2 ann approves a; 4 ann asks a; 6 ann approves a; 10 author merges",
        {"approval": "4.00"},
        id="approved again after a request",
    ),
    pytest.param(
        "0 author pushes a; 2 ann approves a; 4 ann asks a; 10 author merges",
        {"approval": None, "first_approval": "2.00", "unapproved": True, "unreviewed": False},
        id="approval taken back",
    ),
    pytest.param(
        "0 author pushes a; 2 ann approves a; 4 bob asks a; 10 author merges",
        {"approval": "8.00", "unapproved": False},
        id="another's request takes back nothing",
    ),
    pytest.param(
        "0 author pushes a; 2 ann approves a; 4 ann comments a; 10 author merges",
        {"approval": "8.00"},
        id="a comment takes back nothing",
    ),
    pytest.param(
        "0 author pushes a; 2 ann approves a; 5 author dismisses ann; 10 author merges",
        {"approval": None, "unapproved": True, "first_approval": "2.00"},
        id="dismissed approval does not stand",
    ),
    pytest.param(
        "0 author pushes a; 2 ann approves a; 12 author dismisses ann; 10 author merges",
        {"approval": "8.00", "unapproved": False, "recovered": 0},
        id="dismissed after the merge: it stood",
    ),
    pytest.param(
        "0 author pushes a; 2 ann approves a; 5 author dismisses ann; 6 ann approves a; "
        "10 author merges",
        {"approval": "4.00"},
        id="approved again after a dismissal",
    ),
    pytest.param(
        "0 author pushes a; 2 ann asks a; 5 author dismisses ann; 10 author merges",
        {"approval": None, "unapproved": True},
        id="dismissed request is no approval",
    ),
    pytest.param(
        "0 author pushes a; 2 ghost asks a; 3 ghost approves a; 10 author merges",
        {"approval": "7.00", "reviewers": 2},
        id="two deleted accounts are two people",
    ),
    pytest.param(
        "0 author pushes a; 2 robot approves a; 3 author approves a; 10 author merges",
        {"approval": None, "unapproved": True, "unreviewed": True},
        id="bots and authors approve nothing",
    ),
    # The merge ends everything.
    pytest.param(
        "0 author pushes a; 10 author merges; 12 ann approves a; 13 bob remarks",
        {"approval": None, "first": None, "review": None, "wait": None, "response": None}
        | {"unreviewed": True, "later": {"reviews": 1, "comments": 1}, "total": 1, "human": 0},
        id="reviewed after the merge",
    ),
    pytest.param(
        "0 author pushes a; 10 author merges; 10 ann approves a",
        {"approval": "0.00", "first": 10, "unreviewed": False, "later": {}},
        id="reviewed in the second of the merge",
    ),
    pytest.param(
        "0 author pushes a; 10 author merges; 12 ann asks a",
        {"asked": 0, "rounds": 0, "later": {"reviews": 1}},
        id="request after the merge",
    ),
    # Who merged, who reviewed, and what was said.
    pytest.param(
        "0 author pushes a; 9 author merges",
        {"own": True, "unreviewed": True, "unapproved": True, "reviewers": 0},
        id="merged by the author, unseen",
    ),
    pytest.param(
        "0 author pushes a; 9 ann merges", {"own": False, "unreviewed": True}, id="merged by Ann"
    ),
    pytest.param("0 author pushes a; 9 ghost merges", {"own": None}, id="merged by nobody known"),
    pytest.param(
        "0 author pushes a; 1 author requests ann; 2 author requests ann; 4 ann comments a; "
        "5 ann approves a; 6 bob comments a; 9 ann merges",
        {"reviewers": 2, "waits": [("ann", 3.0), ("bob", None)]},
        id="asked at 1, reviewed at 4; Bob came by himself",
    ),
    pytest.param(
        "0 author pushes a; 4 ann comments a; 6 author requests ann; 8 ann asks a; 9 ann merges",
        {"reviewers": 1, "waits": [("ann", None)]},
        id="asked only after the first review",
    ),
    pytest.param(
        "0 author pushes a; 2 ann explains a; 3 author remarks; 4 robot remarks; 5 bob remarks; "
        "6 fix[bot] explains a; 7 ann approves a; 9 ann merges",
        {"human": 3, "total": 3},
        id="what people said: a review's text, the author, and Bob",
    ),
    pytest.param(
        "-9 author pushes a; -2 author pushes b; -5 author wrote b; 3 author pushes c; "
        "9 ann merges",
        {"coding": "9.00", "last_commit": "6.00"},
        id="coding before the opening",
    ),
    pytest.param(
        "1 author pushes a; 9 ann merges",
        {"coding": "0.00", "last_commit": "8.00"},
        id="no coding before the opening",
    ),
    pytest.param(
        "-9 author pushes a; 3 ann merges",
        {"coding": "9.00", "last_commit": "3.00"},
        id="the last commit is from before the opening",
    ),
    pytest.param("0 author pushes a; 0.333 author merges", {"cycle": "0.33"}, id="twenty minutes"),
    pytest.param(
        "0 author pushes a; -1 author merges", {"cycle": "0.00"}, id="merged before opened"
    ),
    # Closed at 3 and opened again at 50: the time between counts, as it did for the reviewers.
    pytest.param(
        "0 author pushes a; 2 ann asks a; 52 author pushes b; 53 ann approves b; 54 ann merges",
        {"rounds": 1, "fix": "50.00", "cycle": "54.00", "approval": "1.00"},
        id="reopened",
    ),
    # CI at the merge, and how long it ran.
    pytest.param(
        "0 author pushes a; 3 ci passes 1; 9 ann merges",
        {"ci": "passed", "ci_hours": "2.00"},
        id="CI passed",
    ),
    pytest.param(
        "0 author pushes a; 3 ci fails 1; 4 lint passes 2; 9 ann merges",
        {"ci": "failed", "ci_hours": "3.00"},
        id="CI failed",
    ),
    pytest.param(
        "0 author pushes a; 3 ci fails 1; 6 ci passes 4; 9 ann merges",
        {"ci": "passed", "ci_hours": "4.00"},
        id="a second run passed",
    ),
    pytest.param(
        "0 author pushes a; 6 ci passes 4; 3 ci fails 1; 9 ann merges",
        {"ci": "passed"},
        id="the newest run decides, not the last of the list",
    ),
    pytest.param(
        "0 author pushes a; 3 ci passes 1; 6 ci fails 4; 9 ann merges",
        {"ci": "failed"},
        id="a second run failed",
    ),
    pytest.param(
        "0 author pushes a; 3 ci@actions fails 1; 6 ci@circle passes 4; 9 ann merges",
        {"ci": "failed"},
        id="equal names of two apps",
    ),
    pytest.param(
        "0 author pushes a; 3 ci passes 1; 4 ci sets failure; 9 ann merges",
        {"ci": "failed"},
        id="a check run and a status of one name",
    ),
    pytest.param(
        "0 author pushes a; 3 ci passes 1; 5 lint runs; 9 ann merges",
        {"ci": "pending", "ci_hours": "6.00"},
        id="CI ran on until the merge",
    ),
    pytest.param(
        "0 author pushes a; 12 ci fails 8; 9 ann merges",
        {"ci": "pending", "ci_hours": "1.00", "later": {}},
        id="failed after the merge",
    ),
    pytest.param(
        "0 author pushes a; 3 ci passes 1; 11 ci fails 10; 9 ann merges",
        {"ci": "passed", "ci_hours": "2.00", "later": {"check_runs": 1}},
        id="run again after the merge",
    ),
    pytest.param(
        "0 author pushes a; 11 ci fails 10; 9 ann merges",
        {"ci": "", "ci_hours": None, "later": {"check_runs": 1, "unknown_checks": ["ci"]}},
        id="nothing known from before the merge",
    ),
    pytest.param(
        "0 author pushes a; 3 ci sets success; 11 deploy sets failure; 9 ann merges",
        {"ci": "passed", "later": {"statuses": 1, "unknown_checks": ["deploy"]}},
        id="a status set after the merge",
    ),
    pytest.param(
        "0 author pushes a; 11 deploy sets failure; 9 ann merges",
        {"ci": "none", "later": {"statuses": 1, "unknown_checks": ["deploy"]}},
        id="nothing but a status set after the merge",
    ),
    pytest.param(
        "0 author pushes a; 3 ci sets success; 9 deploy sets error; 9 ann merges",
        {"ci": "failed", "later": {}},
        id="a status set in the second of the merge",
    ),
    pytest.param(
        "0 author pushes a; 3 ci sets pending; 9 ann merges",
        {"ci": "pending", "ci_hours": None},
        id="a pending status",
    ),
    *(
        pytest.param(
            f"0 author pushes a; 3 ci ends {word} 1; 9 ann merges", {"ci": outcome}, id=word
        )
        for word, outcome in [
            *((word, "passed") for word in ("success", "neutral", "skipped")),
            *((word, "failed") for word in ("failure", "timed_out", "cancelled")),
            *((word, "failed") for word in ("action_required", "startup_failure")),
            *((word, "pending") for word in ("stale", "a_new_word")),
        ]
    ),
    pytest.param(
        "0 author pushes a; 2 ci passes 1; 4 lint passes 1.5; 8 late passes 7; 9 ann merges",
        {"ci_hours": "4.00"},
        id="runs side by side count once, gaps do not",
    ),
    pytest.param(
        "0 author pushes a; 2 ci passes 1; 8 docs ends skipped 3; 9 ann merges",
        {"ci": "passed", "ci_hours": "1.00"},
        id="skipped runs did not run",
    ),
    pytest.param(
        "0 author pushes a; 2 ci passes 1; 3 lint passes 5; 9 ann merges",
        {"ci": "passed", "ci_hours": "1.00"},
        id="an end before its start is unknown",
    ),
    pytest.param(
        "0 author pushes a; 2 ci passes ?; 9 ann merges",
        {"ci": "passed", "ci_hours": None},
        id="a start that is unknown",
    ),
    pytest.param(
        "0 author pushes a; 1 ci passes -2; 9 ann merges",
        {"ci": "passed", "ci_hours": "1.00"},
        id="what ran before the opening is not of its life",
    ),
    pytest.param("0 author pushes a; 9 ann merges", {"ci": "none", "ci_hours": None}, id="no CI"),
]

#: The short names above, and what they are.
NAMES = {
    "rounds": "review_rounds",
    "asked": "changes_requested_count",
    "after": "commits_after_first_review",
    "total": "total_comments",
    "human": "human_comments",
    "ci": "ci_at_merge",
    "unreviewed": "merged_without_review",
    "unapproved": "merged_without_approval",
    "own": "merged_by_author",
    "reviewers": "reviewer_count",
    "first": "first_review_at",
    "ready": "ready_at",
    "response": "first_response_at",
    "early": "early_feedback_at",
    "fix": "avg_fix_response_hours",
    "wait": "review_wait_hours",
    "answer": "first_response_hours",
    "review": "review_time_hours",
    "cycle": "cycle_time_hours",
    "approval": "approval_to_merge_hours",
    "first_approval": "first_approval_hours",
    "coding": "coding_hours",
    "last_commit": "last_commit_to_merge_hours",
    "draft": "draft_hours",
    "ci_hours": "ci_duration_hours",
}
MOMENTS = {"first", "ready", "response", "early"}
HOURS = {name for name, field in NAMES.items() if field.endswith("_hours")}


@pytest.mark.parametrize(("text", "expected"), HISTORIES)
def test_history_gives_the_numbers_worked_out_by_hand(text: str, expected: dict[str, Any]) -> None:
    """Team leads compare themselves by these numbers."""
    metrics = measure(tell(text))

    provenance = metrics.provenance
    excluded = provenance["excluded"]
    found = {short: getattr(metrics, name) for short, name in NAMES.items()}
    found |= {"basis": provenance["commits_after_first_review"], **provenance["dismissed_reviews"]}
    found |= {"corrected": provenance["answers_with_corrected_time"]}
    found |= {"merges": excluded["merge_commits"], "bot_commits": excluded["bot_commits"]}
    found |= {"later": {name: count for name, count in excluded["after_merge"].items() if count}}
    found |= {"waits": [(one["login"], one["hours"]) for one in metrics.reviewers or ()]}
    assert {name: found[name] for name in expected} == {
        name: _convert(name, value) for name, value in expected.items()
    }


def _convert(name: str, value: Any) -> Any:
    if value is None:
        return None
    return hour(value) if name in MOMENTS else Decimal(value) if name in HOURS else value


def test_one_hundred_reviews_are_one_hundred_rounds_if_each_is_answered() -> None:
    """Changes were requested in hours 1, 3, ... 199, each answered an hour later."""
    lines = [f"{2 * n + 1} ann asks\n{2 * n + 2} author pushes c{n}" for n in range(100)]

    metrics = measure(tell("\n".join(lines)))

    assert (metrics.review_rounds, metrics.changes_requested_count) == (100, 100)
    assert metrics.avg_fix_response_hours == Decimal("1.00")


def test_excluded_items_are_listed_with_their_reason() -> None:
    """Nobody believes a number that nobody can check."""
    text = """
        0 author pushes a
        0 robot pushes r
        1 author updates m
        1 author comments a
        1 app[bot] comments a
        1 robot comments a
        2 nightly comments a
        2 ann starts a
        3 author remarks
        3 robot remarks
        9 ann merges
        10 ann remarks
        10 ann approves a
        11 ci passes 10
    """
    assert measure(tell(text)).provenance["excluded"] == {
        "own_reviews": 1,
        "pending_reviews": 1,
        "bot_reviews": {"suffix": 1, "type": 1, "team": 1},
        "own_comments": 1,
        "bot_comments": {"type": 1},
        "merge_commits": 1,
        "bot_commits": {"type": 1},
        "after_merge": {
            "reviews": 1,
            "comments": 1,
            "events": 0,
            "check_runs": 1,
            "statuses": 0,
            "unknown_checks": ["ci"],
        },
    }


def test_replaced_runs_are_known_where_all_were_fetched() -> None:
    """If all runs were fetched, a check that began after the merge did not exist before it."""
    history = replace(tell("0 author pushes a; 11 ci fails 10; 9 ann merges"), has_all_runs=True)

    metrics = measure(history)

    assert metrics.ci_at_merge == "none"
    assert metrics.provenance["excluded"]["after_merge"]["unknown_checks"] == []


@pytest.mark.parametrize(
    ("parents", "is_merge_by_message", "rounds"),
    [
        pytest.param(["a", "main"], False, 0, id="a merge, whatever its message"),
        pytest.param(["a"], True, 1, id="no merge, whatever its message"),
        pytest.param(None, True, 0, id="the message, where parents are not known"),
        pytest.param(None, False, 1, id="neither"),
    ],
)
def test_merge_is_known_by_its_parents(
    parents: list[str] | None, is_merge_by_message: bool, rounds: int
) -> None:
    """Rows of older versions have no parents; the provenance says so."""
    history = tell("0 author pushes a; 1 ann asks a; 2 author pushes b; 9 ann merges")
    first, second = history.commits or ()
    second = replace(second, parents=parents, is_merge_by_message=is_merge_by_message)

    metrics = measure(replace(history, commits=[first, second]))

    assert metrics.review_rounds == rounds
    assert metrics.provenance["commits_with_unknown_parents"] == (parents is None)


@pytest.mark.parametrize(
    ("lines", "band"),
    [
        *((0, "XS"), (9, "XS"), (10, "S"), (29, "S"), (30, "M"), (99, "M"), (100, "L")),
        *((499, "L"), (500, "XL"), (999, "XL"), (1000, "XXL"), (99999, "XXL")),
    ],
)
def test_size_is_in_the_usual_bands(lines: int, band: str) -> None:
    """A team lead compares bands, not lines."""
    metrics = measure(replace(tell("0 author pushes a"), additions=lines, deletions=0))

    assert (metrics.changed_lines, metrics.size_band) == (lines, band)


WHOLE = replace(
    tell(
        "0 author pushes a; 0.5 ann remarks; 0.8 author readies; 0.9 ann remarks; 1 ann asks a; "
        "2 author pushes b; 3 ann approves b; 4 ci passes 3; 9 ann merges"
    ),
    additions=1,
    deletions=1,
)
OF_REVIEWS = {
    *("first_review_at", "review_time_hours", "review_rounds", "avg_fix_response_hours"),
    *("commits_after_first_review", "review_wait_hours", "changes_requested_count"),
    *("first_response_at", "first_response_hours", "approval_to_merge_hours"),
    *("early_feedback_at", "first_approval_hours", "merged_without_review"),
    *("merged_without_approval", "reviewer_count", "reviewers", "human_comments"),
}
OF_COMMITS = {"review_rounds", "avg_fix_response_hours", "commits_after_first_review"}
UNKNOWN_WITHOUT = {
    "reviews": OF_REVIEWS,
    "commits": OF_COMMITS | {"coding_hours", "last_commit_to_merge_hours"},
    "comments": {
        *("total_comments", "human_comments", "first_response_at", "first_response_hours"),
        "early_feedback_at",
    },
    "events": {
        *("ready_at", "review_wait_hours", "first_response_at", "first_response_hours"),
        *("early_feedback_at", "first_approval_hours", "draft_hours"),
    },
    "checks": {"ci_at_merge", "ci_duration_hours"},
}


@pytest.mark.parametrize("name", UNKNOWN_WITHOUT)
def test_metrics_of_missing_sections_are_unknown(name: str) -> None:
    """People would believe a zero; metrics of the other sections are still known."""
    metrics = measure(replace(WHOLE, **{name: None}))

    unknown = {field for field in type(metrics).__slots__ if getattr(metrics, field) in (None, "")}
    assert unknown == UNKNOWN_WITHOUT[name]
    assert metrics.provenance["missing"] == [name]


def test_commit_without_a_date_is_left_out_of_durations() -> None:
    """GitHub has commits whose date is null."""
    history = tell("1 ann asks x; 2 author pushes a; 9 ann merges")
    history = replace(history, commits=[*(history.commits or ()), Commit("b", None, 1)])

    metrics = measure(history)

    assert (metrics.commits_after_first_review, metrics.review_rounds) == (1, 1)
    assert metrics.last_commit_to_merge_hours == Decimal("7.00")


def test_answer_without_a_date_is_a_round_and_no_wait() -> None:
    """The commit follows the reviewed one, so it is an answer, but nobody knows when it came."""
    history = tell("0 author pushes a; 1 ann asks a; 9 ann merges")
    history = replace(history, commits=[*(history.commits or ()), Commit("b", None, 1)])

    metrics = measure(history)

    assert (metrics.review_rounds, metrics.avg_fix_response_hours) == (1, None)


def test_two_unknown_people_are_not_one() -> None:
    """Two deleted accounts are both null, and still two people."""
    history = replace(tell("1 ghost asks a; 2 author pushes b; 3 ghost remarks"), author_id=None)

    metrics = measure(history)

    assert (metrics.review_rounds, metrics.merged_by_author) == (1, None)
    assert metrics.first_response_at == hour(1)


def test_hours_have_two_decimals_and_are_never_negative() -> None:
    """Other programs read the column without rounding it."""
    assert measure_hours(hour(0), hour(9000.5)) == Decimal("9000.50")
    assert measure_hours(hour(1), hour(0)) == Decimal("0.00")
    assert measure_hours(None, hour(0)) is None


# What holds for every history.


@given(histories(), st.randoms())
def test_order_of_the_items_does_not_matter(history: History, chance: Any) -> None:
    """Some of GitHub's lists follow history, some time, and some neither."""

    def shuffle(items: Sequence[Any]) -> Sequence[Any]:
        return chance.sample(list(items), len(items))

    shuffled = replace(history, **{name: shuffle(getattr(history, name)) for name in LISTS})

    assert measure(shuffled) == measure(history)


@given(histories(), reviews)
def test_bots_and_the_authors_own_reviews_change_no_number(history: History, extra: Review) -> None:
    """Bots answer every push, and would be the first reviewer of every pull request."""
    history = replace(history, author_id=AUTHOR_ID)
    own = replace(extra, reviewer_id=AUTHOR_ID, has_body=False)
    bot = replace(extra, reviewer_id=99, bot_rule=BotRule.TYPE)
    more = replace(history, reviews=[*(history.reviews or ()), own, bot])

    assert _read_numbers(more) == _read_numbers(history)


def _read_numbers(history: History) -> dict[str, Any]:
    metrics = asdict(measure(history))
    del metrics["provenance"]
    return metrics


@given(histories())
def test_no_number_is_negative_and_no_more_rounds_than_requests(history: History) -> None:
    """Wrong clocks make negative durations, and each round needs a request."""
    metrics = measure(history)

    numbers = [
        value for value in _read_numbers(history).values() if isinstance(value, (int, Decimal))
    ]
    assert all(number >= 0 for number in numbers)
    assert (metrics.review_rounds or 0) <= (metrics.changes_requested_count or 0)


@given(histories())
def test_no_duration_exceeds_the_life_of_the_pull_request(history: History) -> None:
    """Nobody waits 34 hours for a pull request that was open for 10."""
    numbers = _read_numbers(history)
    life = numbers["cycle_time_hours"]

    # What was before the opening is not of its life.
    del numbers["coding_hours"]
    durations = {name: n for name, n in numbers.items() if name.endswith("_hours")}
    waits = {one["login"]: one["hours"] for one in numbers["reviewers"]}
    found = {name: hours for name, hours in (durations | waits).items() if hours is not None}
    assert {name: hours for name, hours in found.items() if hours > life} == {}


@given(histories(), st.data())
def test_nothing_after_the_merge_changes_a_number(history: History, data: st.DataObject) -> None:
    """Later comments and commits have no part in how the pull request was merged."""
    merged_at = history.merged_at
    assert merged_at is not None
    later = st.integers(1, 900).map(lambda minutes: merged_at + timedelta(minutes=minutes))
    known = replace(history, has_all_runs=True)
    more = replace(
        known,
        reviews=[
            *(_dismiss_later(review, data.draw(later)) for review in history.reviews or ()),
            *data.draw(st.lists(st.builds(replace, reviews, submitted_at=later))),
        ],
        comments=[
            *(history.comments or ()),
            *data.draw(st.lists(st.builds(replace, comments, created_at=later))),
        ],
        events=[
            *(history.events or ()),
            *data.draw(st.lists(st.builds(replace, events, created_at=later))),
        ],
        checks=[
            *(_end_later(check, data.draw(later)) for check in history.checks or ()),
            *data.draw(st.lists(st.builds(replace, runs, started_at=later))),
            *data.draw(st.lists(st.builds(replace, statuses, ended_at=later))),
        ],
    )

    before, after = asdict(measure(known)), asdict(measure(more))

    for metrics in (before, after):
        del metrics["total_comments"]  # What GitHub counts.
        del metrics["provenance"]["excluded"]
    assert after == before


def _dismiss_later(review: Review, at: datetime) -> Review:
    if review.was_dismissed:
        return review
    return replace(review, was_dismissed=True, dismissed_at=at)


def _end_later(check: Check, at: datetime) -> Check:
    is_running = not check.conclusion and not check.is_status
    return replace(check, conclusion="failure", ended_at=at) if is_running else check
