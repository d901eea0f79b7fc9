-- The rows of the farm; farm.py makes the teams, their people and repositories before, and sets
-- farm.rows and farm.detailed. What looks random is a hash of the row's number, so that each run
-- has the same rows.

CREATE FUNCTION pg_temp.draw(n bigint, salt bigint) RETURNS double precision
LANGUAGE sql IMMUTABLE AS $$
    SELECT ((hashint8extended(n, salt) & 2147483647) + 0.5) / 2147483648.0
$$;

-- Exponential, with this mean.
CREATE FUNCTION pg_temp.wait(n bigint, salt bigint, mean double precision)
RETURNS double precision LANGUAGE sql IMMUTABLE AS $$
    SELECT -ln(pg_temp.draw(n, salt)) * mean
$$;

CREATE FUNCTION pg_temp.hours(since timestamptz, until timestamptz)
RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
    SELECT round(extract(epoch FROM until - since) / 3600, 2)
$$;

CREATE TEMP TABLE people ON COMMIT DROP AS
SELECT *, row_number() OVER (PARTITION BY team_id ORDER BY github_id) - 1 AS place
FROM metrics_sync_teammember;

UPDATE metrics_sync_trackedrepository
SET connected_at = now() - interval '45 weeks', verified_at = now();

CREATE TEMP TABLE repositories ON COMMIT DROP AS
SELECT *, row_number() OVER (ORDER BY full_name) - 1 AS place FROM metrics_sync_trackedrepository;

-- First what is drawn for each pull request, then what follows from it.
CREATE TEMP TABLE drawn ON COMMIT DROP AS
SELECT
    n,
    n <= current_setting('farm.detailed')::int AS is_detailed,
    floor(40 * power(pg_temp.draw(n, 1), 1.6))::int AS repository_place,
    CASE WHEN pg_temp.draw(n, 2) < 0.08 THEN 12
         ELSE floor(12 * power(pg_temp.draw(n, 3), 1.4))::int END AS author_place,
    floor(12 * pg_temp.draw(n, 4))::int AS first_place,
    floor(12 * pg_temp.draw(n, 5))::int AS second_place,
    CASE WHEN pg_temp.draw(n, 6) < 0.04 THEN 'open'
         WHEN pg_temp.draw(n, 6) < 0.07 THEN 'closed' ELSE 'merged' END AS state,
    pg_temp.draw(n, 7) < 0.15 AS began_as_draft,
    pg_temp.draw(n, 8) < 0.12 AS is_unreviewed,
    now() - interval '50 weeks' * (n - 0.5) / current_setting('farm.rows')::int AS ended_at,
    interval '1 hour' * (0.2 + pg_temp.wait(n, 9, 40)) AS lasted,
    pg_temp.wait(n, 10, 7) AS wait_hours,
    pg_temp.wait(n, 11, 3) AS answer_hours,
    floor(pg_temp.wait(n, 12, 1.1))::int AS rounds,
    1 + floor(pg_temp.wait(n, 13, 120))::int AS additions,
    floor(pg_temp.wait(n, 14, 45))::int AS deletions,
    floor(pg_temp.wait(n, 15, 2.2))::int AS comments,
    CASE WHEN pg_temp.draw(n, 16) < 0.004 THEN 300 + pg_temp.wait(n, 17, 4000)
         ELSE 1 + pg_temp.wait(n, 17, 9) END AS seconds
FROM generate_series(1, current_setting('farm.rows')::int) AS n;

CREATE TEMP TABLE pulls ON COMMIT DROP AS
SELECT
    drawn.*,
    1000000 + n AS id,
    r.id AS repository_id, r.team_id, r.full_name, r.connected_at,
    author.id AS author_id, author.login AS author_login, author.is_bot,
    CASE WHEN drawn.state = 'open' THEN now() - lasted * 3 ELSE ended_at - lasted END AS opened_at,
    state = 'open' AND began_as_draft AND n % 2 = 0 AS is_draft,
    first.id AS first_id, first.login AS first_login,
    second.id AS second_id, second.login AS second_login,
    (ARRAY['Fix', 'Add', 'Remove', 'Cache', 'Retry', 'Rename', 'Speed up', 'Document'])[1 + n % 8]
        || ' the '
        || (ARRAY['search', 'import', 'login', 'export', 'invoice', 'report', 'upload', 'schedule',
                  'archive', 'webhook', 'cache'])[1 + n % 11]
        || ' of '
        || (ARRAY['customers', 'orders', 'warehouses', 'suppliers', 'payments', 'contracts',
                  'employees'])[1 + n % 7]
        || CASE WHEN n % 3 = 0 THEN ' when the connection was lost' ELSE '' END AS title,
    lower((ARRAY['fix', 'feature', 'chore'])[1 + n % 3]) || '/FARM-' || n || '-'
        || (ARRAY['search', 'import', 'login', 'export', 'invoice', 'report', 'upload', 'schedule',
                  'archive', 'webhook', 'cache'])[1 + n % 11] AS head_ref,
    encode(sha256(n::text::bytea), 'hex') AS hash
FROM drawn
JOIN repositories r ON r.place = repository_place
JOIN people author ON author.team_id = r.team_id AND author.place = author_place
JOIN people first ON first.team_id = r.team_id
    AND first.place = CASE WHEN first_place = author_place THEN (first_place + 1) % 12
                           ELSE first_place END
JOIN people second ON second.team_id = r.team_id
    AND second.place = CASE WHEN second_place = author_place THEN (second_place + 1) % 12
                            ELSE second_place END;

ALTER TABLE pulls ADD ready_at timestamptz, ADD first_review_at timestamptz,
    ADD second_review_at timestamptz, ADD is_reviewed boolean, ADD until timestamptz,
    ADD is_asking boolean;
UPDATE pulls SET
    until = CASE WHEN state = 'open' THEN now() ELSE ended_at END,
    ready_at = CASE WHEN is_draft THEN NULL
                    WHEN began_as_draft THEN opened_at + lasted * 0.2 ELSE opened_at END,
    is_reviewed = NOT is_draft
        AND CASE state WHEN 'merged' THEN NOT is_unreviewed ELSE n % 2 = 0 END,
    is_asking = rounds > 0 AND NOT is_bot;
UPDATE pulls SET
    first_review_at = least(ready_at + interval '1 hour' * wait_hours,
                            ready_at + (until - ready_at) * 0.6)
WHERE is_reviewed;
UPDATE pulls SET second_review_at = least(
    first_review_at + interval '1 hour' * (answer_hours + 1),
    first_review_at + (until - first_review_at) * 0.9)
WHERE is_reviewed;

INSERT INTO metrics_sync_pullrequest (
    id, team_id, repository_id, github_repo, github_pr_id, github_pr_number, title,
    author_id, author_login, is_by_bot, merged_by_login, state, is_draft, base_ref, head_ref,
    head_sha, base_sha, pr_created_at, pr_updated_at, closed_at, merged_at,
    additions, deletions, changed_files,
    first_review_at, cycle_time_hours, review_time_hours, review_rounds, avg_fix_response_hours,
    commits_after_first_review, total_comments, ready_at, review_wait_hours,
    first_response_at, first_response_hours, changes_requested_count, first_approval_hours,
    approval_to_merge_hours, ci_at_merge, ci_duration_hours, merged_without_review,
    merged_without_approval, merged_by_author, reviewer_count, reviewers, changed_lines, size_band,
    coding_hours, last_commit_to_merge_hours, draft_hours, human_comments, metrics_version,
    provenance, sync_status, sync_error, sync_attempts, sync_job_id, fetch_started_at, completed_at,
    truncated, receipt, etags)
SELECT
    id, team_id, repository_id, full_name, 5000000000 + n,
    row_number() OVER (PARTITION BY repository_id ORDER BY n DESC), title,
    author_id, author_login, is_bot, CASE WHEN is_merged THEN second_login ELSE '' END,
    state, is_draft, 'main', head_ref, left(hash, 40), right(hash, 40),
    opened_at, until, CASE WHEN state <> 'open' THEN until END, CASE WHEN is_merged THEN until END,
    additions, deletions, 3,
    CASE WHEN is_merged THEN first_review_at END, m.cycle,
    CASE WHEN is_merged THEN pg_temp.hours(opened_at, first_review_at) END,
    CASE WHEN is_merged THEN CASE WHEN is_reviewed AND is_asking THEN rounds ELSE 0 END END,
    CASE WHEN is_merged AND is_reviewed AND is_asking
         THEN pg_temp.hours(first_review_at, second_review_at) END,
    CASE WHEN is_merged AND is_reviewed THEN 1 END,
    CASE WHEN is_merged THEN comments END,
    CASE WHEN is_merged THEN ready_at END,
    CASE WHEN is_merged THEN pg_temp.hours(ready_at, first_review_at) END,
    CASE WHEN is_merged THEN first_review_at END,
    CASE WHEN is_merged THEN pg_temp.hours(ready_at, first_review_at) END,
    CASE WHEN is_merged THEN CASE WHEN is_reviewed AND is_asking THEN 1 ELSE 0 END END,
    CASE WHEN is_merged THEN pg_temp.hours(ready_at, second_review_at) END,
    CASE WHEN is_merged THEN pg_temp.hours(second_review_at, until) END,
    CASE WHEN is_merged THEN (ARRAY['passed', 'passed', 'passed', 'failed', 'pending'])[1 + n % 5]
         ELSE '' END,
    CASE WHEN is_merged THEN round((2 + n % 20) / 60.0, 2) END,
    CASE WHEN is_merged THEN NOT is_reviewed END,
    CASE WHEN is_merged THEN NOT is_reviewed END,
    CASE WHEN is_merged THEN author_login = second_login END,
    CASE WHEN is_merged THEN CASE WHEN NOT is_reviewed THEN 0
                                  WHEN first_id = second_id THEN 1 ELSE 2 END END,
    CASE WHEN is_merged THEN CASE WHEN NOT is_reviewed THEN '[]'::jsonb ELSE
        jsonb_build_array(jsonb_build_object(
            'login', first_login, 'requested_at', opened_at, 'reviewed_at', first_review_at,
            'hours', pg_temp.hours(opened_at, first_review_at)))
        || CASE WHEN first_id = second_id THEN '[]'::jsonb ELSE jsonb_build_array(
            jsonb_build_object(
                'login', second_login, 'requested_at', NULL, 'reviewed_at', second_review_at,
                'hours', NULL)) END END END,
    CASE WHEN is_merged THEN additions + deletions END,
    CASE WHEN NOT is_merged THEN '' WHEN additions + deletions < 10 THEN 'XS'
         WHEN additions + deletions < 30 THEN 'S' WHEN additions + deletions < 100 THEN 'M'
         WHEN additions + deletions < 500 THEN 'L' WHEN additions + deletions < 1000 THEN 'XL'
         ELSE 'XXL' END,
    CASE WHEN is_merged THEN round((1 + n % 30)::numeric, 2) END,
    CASE WHEN is_merged THEN pg_temp.hours(second_review_at, until) END,
    CASE WHEN is_merged THEN pg_temp.hours(opened_at, ready_at) END,
    CASE WHEN is_merged THEN comments END,
    CASE WHEN is_merged THEN 3 END,
    CASE WHEN is_merged AND is_detailed THEN '{"commits_after_first_review": "reviewed commit",
        "answers_with_corrected_time": 0, "commits_with_unknown_parents": 0,
        "excluded": {"own_reviews": 0, "pending_reviews": 0, "bot_reviews": {}, "own_comments": 0,
        "bot_comments": {}, "merge_commits": 0, "bot_commits": {}, "after_merge": {"reviews": 0,
        "comments": 0, "events": 0, "check_runs": 0, "statuses": 0, "unknown_checks": []}},
        "dismissed_reviews": {"recovered": 0, "unknown": 0}, "missing": []}'::jsonb
         ELSE '{}'::jsonb END,
    m.status,
    CASE m.status WHEN 'partial' THEN 'reviews: GitHub answered 502'
                  WHEN 'failed' THEN 'GitHub does not answer' ELSE '' END,
    1, '', CASE WHEN is_merged THEN until + interval '1 second' END,
    CASE WHEN m.status = 'complete' THEN greatest(until, connected_at)
        + interval '1 second' * seconds END,
    '[]'::jsonb,
    CASE WHEN is_merged AND is_detailed THEN (
        SELECT jsonb_object_agg(section, '{"stated": 3, "stored": 3, "result": "verified",
            "witness": "counter"}'::jsonb)
        FROM unnest(ARRAY['commits', 'files', 'check_runs', 'issue_comments', 'review_comments',
                          'reviews', 'timeline', 'commit_statuses']) AS section)
        ELSE '{}'::jsonb END,
    CASE WHEN is_merged AND is_detailed THEN (
        SELECT jsonb_object_agg(section, jsonb_build_array(jsonb_build_array(
            'https://api.github.com/repos/' || full_name || '/pulls/' || n || '/' || section
                || '?per_page=100',
            'W/"' || encode(sha256((section || n)::bytea), 'hex') || '"')))
        FROM unnest(ARRAY['pull_request', 'commits', 'files', 'check_runs', 'issue_comments',
                          'review_comments', 'reviews', 'timeline', 'commit_statuses']) AS section)
        ELSE '{}'::jsonb END
FROM pulls, LATERAL (SELECT
    state = 'merged' AS is_merged,
    CASE WHEN state = 'merged' THEN pg_temp.hours(opened_at, until) END AS cycle,
    CASE WHEN state <> 'merged' THEN 'idle' WHEN n % 997 = 3 THEN 'failed'
         WHEN n % 503 = 5 THEN 'partial' WHEN n <= 6 THEN 'queued' ELSE 'complete' END AS status
) AS m;

INSERT INTO metrics_sync_prreview (
    team_id, pull_request_id, github_review_id, reviewer_id, reviewer_login, state,
    submitted_state, body, commit_sha, submitted_at)
SELECT team_id, id, 10 * n, first_id, first_login,
    CASE WHEN is_asking THEN 'changes_requested' ELSE 'commented' END, '',
    'Please look at the ' || title || ' again.', left(hash, 40), first_review_at
FROM pulls WHERE is_reviewed
UNION ALL
SELECT team_id, id, 10 * n + 1, second_id, second_login, 'approved', '', '', left(hash, 40),
    second_review_at
FROM pulls WHERE is_reviewed AND (state <> 'open' OR n % 4 = 0);

INSERT INTO metrics_sync_prtimelineevent (
    team_id, pull_request_id, github_event_id, event, actor_id, actor_login, created_at,
    subject_login, subject_github_id, dismissed_state)
SELECT pulls.team_id, pulls.id, 10 * n, 'review_requested', author_id, author_login,
    coalesce(ready_at, opened_at), first_login, github_id, ''
FROM pulls JOIN metrics_sync_teammember asked ON asked.id = first_id WHERE NOT is_draft
UNION ALL
SELECT team_id, id, 10 * n + 1, 'ready_for_review', author_id, author_login, ready_at, '', NULL, ''
FROM pulls WHERE began_as_draft AND NOT is_draft;

UPDATE metrics_sync_pullrequest row SET review_requests = jsonb_build_object(
    'as_of', opened_at, 'asked', jsonb_build_array(jsonb_build_object(
        'github_id', asked.github_id, 'login', asked.login, 'is_team', false)))
FROM pulls JOIN metrics_sync_teammember asked ON asked.id = first_id
WHERE row.id = pulls.id AND pulls.state = 'open' AND NOT pulls.is_draft AND n % 3 > 0;

INSERT INTO metrics_sync_commit (
    team_id, pull_request_id, github_sha, message, author_id, author_login, authored_at,
    committed_at, position, parents)
SELECT team_id, id, encode(sha1, 'hex'), title || E'\n\nAs ' || first_login || ' wrote.', author_id,
    author_login, at, at, place, '[]'::jsonb
FROM pulls, generate_series(0, 2) AS place, LATERAL (
    SELECT substr(sha256((n || '-' || place)::bytea), 1, 20) AS sha1,
        CASE place WHEN 2 THEN coalesce(second_review_at - interval '10 minutes', opened_at)
             ELSE opened_at - interval '1 hour' * (2 - place) END AS at) AS made
WHERE is_detailed;

INSERT INTO metrics_sync_prfile (
    team_id, pull_request_id, filename, previous_filename, status, additions, deletions, changes,
    listing_key)
SELECT team_id, id, name, '', 'modified', additions / 3, deletions / 3,
    additions / 3 + deletions / 3, encode(sha256((name || 'modified')::bytea), 'hex')
FROM pulls, generate_series(1, 3) AS place,
    LATERAL (SELECT 'src/farm/module_' || (n * place) % 700 || '/part_' || place || '.py' AS name)
    AS made
WHERE is_detailed;

INSERT INTO metrics_sync_prcheckrun (
    team_id, pull_request_id, github_check_run_id, name, app_slug, status, conclusion, started_at,
    completed_at)
SELECT team_id, id, 10 * n + place, (ARRAY['lint', 'test', 'build'])[place], 'github-actions',
    'completed', CASE WHEN n % 5 = 3 AND place = 2 THEN 'failure' ELSE 'success' END,
    opened_at + interval '1 minute', opened_at + interval '1 minute' * (3 + n % 20)
FROM pulls, generate_series(1, 3) AS place
WHERE is_detailed;

INSERT INTO metrics_sync_prcomment (
    team_id, pull_request_id, github_comment_id, comment_type, author_id, author_login, body, path,
    created_at, updated_at)
SELECT team_id, id, 100 * n + place, CASE WHEN place % 2 = 0 THEN 'issue' ELSE 'review' END,
    first_id, first_login, 'Could ' || title || ' break what ' || author_login || ' did before?',
    CASE WHEN place % 2 = 0 THEN '' ELSE 'src/farm/module_1/part_1.py' END,
    opened_at + lasted * place / 100, opened_at + lasted * place / 100
FROM pulls, generate_series(1, least(comments, 12)) AS place
WHERE is_detailed;

INSERT INTO metrics_sync_fetchrun (
    team_id, pull_request_id, job_id, status, started_at, finished_at, requests_made, receipt,
    errors)
SELECT team_id, id, left(hash, 36), 'complete', until, until + interval '2 seconds', 10,
    '{}'::jsonb, '[]'::jsonb
FROM pulls WHERE state = 'merged' AND is_detailed;

INSERT INTO metrics_sync_webhookdelivery (
    integration_id, team_id, endpoint, guid, event, action, github_repo, status, error, payload,
    received_at, processed_at)
SELECT r.integration_id, r.team_id, 'shared', left(hash, 36), 'pull_request', 'closed',
    pulls.full_name, 'processed', '', '', until, until
FROM pulls JOIN repositories r ON r.id = repository_id
WHERE state = 'merged' AND until > now() - interval '30 days';

-- The large one takes the place of the newest merge that is complete.
CREATE TEMP TABLE large ON COMMIT DROP AS
SELECT * FROM pulls WHERE state = 'merged' AND n > 6 AND is_reviewed ORDER BY n LIMIT 1;
UPDATE metrics_sync_pullrequest SET
    title = 'Move all services to the new build', changed_files = 3000, additions = 61000,
    deletions = 9000, changed_lines = 70000, size_band = 'XXL', total_comments = 1000
WHERE id = (SELECT id FROM large);
DELETE FROM metrics_sync_prfile WHERE pull_request_id = (SELECT id FROM large);
DELETE FROM metrics_sync_prcomment WHERE pull_request_id = (SELECT id FROM large);
DELETE FROM metrics_sync_commit WHERE pull_request_id = (SELECT id FROM large);
DELETE FROM metrics_sync_prcheckrun WHERE pull_request_id = (SELECT id FROM large);
INSERT INTO metrics_sync_prfile (
    team_id, pull_request_id, filename, previous_filename, status, additions, deletions, changes,
    listing_key)
SELECT team_id, id, name, '', 'modified', 20, 3, 23, encode(sha256(name::bytea), 'hex')
FROM large, generate_series(1, 3000) AS place,
    LATERAL (SELECT 'services/service-' || place % 40 || '/src/module_' || place || '.py' AS name)
    AS made;
INSERT INTO metrics_sync_prcomment (
    team_id, pull_request_id, github_comment_id, comment_type, author_id, author_login, body, path,
    created_at, updated_at)
SELECT team_id, id, 900000000 + place, CASE WHEN place % 2 = 0 THEN 'issue' ELSE 'review' END,
    first_id, first_login, repeat('Why is this moved? ', 1 + place % 9),
    CASE WHEN place % 2 = 0 THEN '' ELSE 'services/service-1/src/module_1.py' END,
    opened_at + lasted * place / 1001, opened_at + lasted * place / 1001
FROM large, generate_series(1, 1000) AS place;
INSERT INTO metrics_sync_commit (
    team_id, pull_request_id, github_sha, message, author_id, author_login, authored_at,
    committed_at, position, parents)
SELECT team_id, id, encode(substr(sha256(('large' || place)::bytea), 1, 20), 'hex'),
    'Move service ' || place, author_id, author_login, at, at, place, '[]'::jsonb
FROM large, generate_series(1, 300) AS place,
    LATERAL (SELECT opened_at + lasted * place / 301 AS at) AS made;
INSERT INTO metrics_sync_prcheckrun (
    team_id, pull_request_id, github_check_run_id, name, app_slug, status, conclusion, started_at,
    completed_at)
SELECT team_id, id, 900000000 + place, 'test (service-' || place || ')', 'github-actions',
    'completed', CASE WHEN place % 50 = 0 THEN 'failure' ELSE 'success' END,
    until - interval '1 minute' * (5 + place % 30), until - interval '1 minute' * (place % 5)
FROM large, generate_series(1, 500) AS place;

SELECT setval(pg_get_serial_sequence('metrics_sync_pullrequest', 'id'),
    (SELECT max(id) FROM metrics_sync_pullrequest))
