"""What ``compatcheck init --github`` and ``--gitlab`` write: pull requests, and a hosted model once a week.

In every text ``{name}`` is the check, ``{paths}`` the files of OLD and NEW, ``{version}`` that of compatcheck. Nothing
that a pull request can name is pasted into a script, and the job that may write a comment runs nothing of the
repository: it posts a file that the other job made, as data.
"""

from __future__ import annotations

INSTALL = "compatcheck @ git+https://github.com/compatcheck/compatcheck@v{version}"

_CODES = """\
# Exit codes, and with them the job:
#   0  passes: every budget of the check is kept, or there is none
#   1  fails: a regression is shown, since the 95 % bound of a figure lies beyond its budget
#   2  fails: settings, files or a server are wrong, and nothing was shown about the models
#   3  fails: inconclusive, more instances are needed (`compatcheck plan` says how many)
"""

_ONCE = """\
#   compatcheck bless https://api.example/v1#model --as hosted --task gsm8k
#   COMPATCHECK_STORE=false compatcheck run https://api.example/v1#model --task gsm8k --out .compatcheck/again
# The second run, which takes no answer from the store, is the noise floor: what flips where nothing changed. A budget
# within it is refused. Commit .compatcheck/baselines and .compatcheck/again, and take the comments away from
# [checks.drift] in compatcheck.toml.
"""

_INSTALLED = """\
      - uses: actions/checkout@v6
        with:
          persist-credentials: false
      - uses: actions/setup-python@v6
        with:
          python-version: "3.12"
          cache: pip
          cache-dependency-path: .github/workflows/{file}
      - name: Install
        run: python -m pip install "$PACKAGE"
"""
"""The first steps of a job on GitHub; ``{file}`` is the workflow's."""
_COMPARE = """\
          rm -rf compat-report
          compatcheck diff --check {check} --out compat-report \\
            --format terminal --format github --format junit --format html
      - uses: actions/upload-artifact@v6
        if: always()
        with:
          name: {artifact}
          path: compat-report
          if-no-files-found: ignore
"""

GITHUB = (
    """\
# Compares OLD and NEW of compatcheck.toml on every pull request that touches what is listed under `paths`.
"""
    + _CODES
    + """\
# To let 3 pass put `|| [ $? = 3 ]` behind the command. A package that cannot be installed fails the step before it.
name: compatcheck
on:
  pull_request:
    paths:
{paths}      - compatcheck.toml
      - .compatcheck/baselines/**
      - .github/workflows/compatcheck.yml
  workflow_dispatch:
permissions:
  contents: read
concurrency:
  group: compatcheck-${{ github.ref }}
  cancel-in-progress: true
env:
  # From a registry or a wheel file: compatcheck=={version}. With [models] where OLD and NEW run here.
  PACKAGE: "{install}"
  COMPATCHECK_STORE: ${{ github.workspace }}/.compatcheck/store
jobs:
  compare:
    runs-on: ubuntu-latest
    timeout-minutes: 60
    steps:
"""
    + _INSTALLED.replace("{file}", "compatcheck.yml")
    + """\
      # Answers that were paid for once: a model that has not changed is not asked again.
      - uses: actions/cache@v5
        with:
          path: .compatcheck/store
          key: compatcheck-store-${{ github.run_id }}
          restore-keys: compatcheck-store-
      - name: Compare
        # Keys of hosted models: OPENAI_API_KEY: ${{ secrets.OPENAI_API_KEY }}; pull requests of forks have no secrets.
        run: |
"""
    + _COMPARE.replace("{check}", "{name}").replace("{artifact}", "compat-report")
    + """\
  comment:
    needs: compare
    # One comment, kept up to date. Forks have a token that may not write: their report is in the step summary.
    if: always() && github.event.pull_request.head.repo.full_name == github.repository
    runs-on: ubuntu-latest
    timeout-minutes: 5
    permissions:
      pull-requests: write
    steps:
      - uses: actions/download-artifact@v7
        continue-on-error: true
        with:
          name: compat-report
          path: compat-report
      - name: Comment
        env:
          GH_TOKEN: ${{ github.token }}
          COMMENTS: repos/${{ github.repository }}/issues/${{ github.event.pull_request.number }}/comments
        run: |
          set -euo pipefail
          file=compat-report/github.md
          if [ ! -f "$file" ]; then echo "there is no report to comment"; exit 0; fi
          MARKER=$(head -n 1 "$file")
          case "$MARKER" in '<!-- compatcheck:'*' -->') ;; *) echo "not a comment of compatcheck"; exit 2 ;; esac
          export MARKER
          ids=$(gh api --paginate "$COMMENTS" --jq '.[] | select(.body | startswith(env.MARKER)) | .id')
          id=${ids%%$'\\n'*}
          if [ -n "$id" ]; then
            gh api --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$id" --field body=@"$file" > /dev/null
          else
            gh api --method POST "$COMMENTS" --field body=@"$file" > /dev/null
          fi
"""
)

DRIFT = (
    """\
# Asks a hosted model again every week, and compares its answers with those that were blessed: the same name may be
# another model by then. To set it up once, where the model can be reached:
"""
    + _ONCE
    + "# Set the variable COMPATCHECK_DRIFT of the repository to true as well.\n"
    + _CODES
    + """\
name: compatcheck drift
on:
  schedule:
    - cron: "17 5 * * 1"
  workflow_dispatch:
permissions:
  contents: read
env:
  PACKAGE: "{install}"
jobs:
  drift:
    if: vars.COMPATCHECK_DRIFT == 'true'
    runs-on: ubuntu-latest
    timeout-minutes: 120
    steps:
"""
    + _INSTALLED.replace("{file}", "compatcheck-drift.yml")
    + """\
      - name: Compare
        env:
          OPENAI_API_KEY: ${{ secrets.OPENAI_API_KEY }}
          COMPATCHECK_STORE: "false" # an answer that was kept would hide what the server says now
        run: |
"""
    + _COMPARE.replace("{check}", "drift").replace("{artifact}", "compat-drift")
)

GITLAB = (
    """\
# Compares OLD and NEW of compatcheck.toml in every merge request that touches what is listed under `changes`; the job
# compatcheck-drift asks a hosted model again in pipelines of a schedule that sets COMPATCHECK_DRIFT to "true".
# Include it from .gitlab-ci.yml:  include: {local: .gitlab/compatcheck.yml}
"""
    + _CODES
    + """\
# To let 3 pass add `allow_failure: {exit_codes: [3]}` to the job. JUnit and the report are kept as artifacts.
.compatcheck:
  image: python:3.12-slim
  stage: test
  timeout: 1h
  variables:
    # From a registry or a wheel file: compatcheck=={version}. With [models] where OLD and NEW run here.
    PACKAGE: "{install}"
    PIP_CACHE_DIR: "$CI_PROJECT_DIR/.cache/pip"
    COMPATCHECK_STORE: "$CI_PROJECT_DIR/.compatcheck/store"
  before_script:
    - command -v git > /dev/null || { apt-get update -qq && apt-get install -qq git > /dev/null; }
    - python -m pip install "$PACKAGE"
  artifacts:
    when: always
    paths: [compat-report]
    reports:
      junit: compat-report/junit.xml

compatcheck:
  extends: .compatcheck
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
      changes:
{paths}        - compatcheck.toml
        - .compatcheck/baselines/**/*
        - .gitlab/compatcheck.yml
  cache:
    key: compatcheck
    paths: [.cache/pip, .compatcheck/store]
  script:
    - rm -rf compat-report
    - compatcheck diff --check {name} --out compat-report --format terminal --format junit --format html

# To set it up once, where the model can be reached:
"""
    + _ONCE
    + """\
compatcheck-drift:
  extends: .compatcheck
  rules:
    - if: $CI_PIPELINE_SOURCE == "schedule" && $COMPATCHECK_DRIFT == "true"
  variables:
    COMPATCHECK_STORE: "false" # an answer that was kept would hide what the server says now
  script:
    - rm -rf compat-report
    - compatcheck diff --check drift --out compat-report --format terminal --format junit --format html
"""
)
