"""Holds the service and the sandbox against GitHub's machine-readable descriptions.

`used.json` is GitHub's OpenAPI description (MIT) reduced to what the service uses: the operations
that it calls, with all of their parameters, and of their answers the fields that it reads.
`make contract` compares it with the newest descriptions that GitHub and Octokit publish.
"""
