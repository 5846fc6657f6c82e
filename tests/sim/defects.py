"""The deliberate defects that tests/sim/mutants makes: each a rule of the protocol, left out. An edit is (file, text that is there once, text instead).

Two rules have no defect here, since leaving them out changes nothing that can be seen:
- "Items are lost only when the log was read to its end." Whoever says so before writes `lost` behind the manifests all the same: the offsets were committed, hence
  the manifests are in the log. In the log's order the run is complete then, and the message void. What must hold is that the offsets were committed
  (lost-without-commits).
- "A cut's first outcome wins." Outcomes are read from jobs whose ids are the same for all, giving up included, so a second one says what the first said.
"""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Defect:
    name: str
    what: str
    edits: tuple


def defect(name, what, *edits):
    return Defect(name, what, edits)


MODEL_IGNORES_COUNTS = ("tests/bq/sql_source.c", "if (e->found != e->value)", "if (false && e->found != e->value)")

DEFECTS = (
    defect("no-exclusions-in-the-log", "a later load of an item that is done is not excluded",
           ("common/fleet/fold_manifest.c", "            if (mark(f, item))\n                fresh++;\n            else\n                exclude(f, at, item);",
            "            mark(f, item);\n            fresh++;")),
    defect("exclusions-dropped", "the statement does not get the exclusions",
           ("common/fleet/cut_text.c", "x < l->exclusion_count; x++", "x < l->exclusion_count && false; x++")),
    defect("commit-before-acknowledgement", "an item's offset is done when its manifest is sent",
           ("worker/manifests.c", "        item_enlist(item, &o->items);\n    }\n}\n\nvoid manifests_idle",
            "        item_enlist(item, &o->items);\n        intake_done(m->w->intake, item->first.partition, item->first.offset);\n    }\n}\n\nvoid manifests_idle")),
    defect("new-id-after-a-lost-reply", "a 409 is taken for a reason to use another job id",
           ("common/bq/job.c", "    } else if (a->err->code == 409) {\n        job_enter(j, STEP_READ);\n    } else if (a->err->kind == ERR_QUOTA",
            "    } else if (a->err->code == 409) {\n        set_try(j, j->k + 1);\n        job_wait_retry(j, j->k, a->err);\n    } else if (a->err->kind == ERR_QUOTA")),
    defect("permit-without-expiry", "a permit is taken whether it has expired or not, and its holder's job is not waited for",
           ("common/bq/permits_sql.c", " AND job = @seen_job AND (holder = '' OR expires < CURRENT_TIMESTAMP())", " AND job = @seen_job"),
           ("common/bq/permits_hold.c", "    if (p->orphan[0])\n        permits_settle(p);\n    else if", "    p->orphan[0] = '\\0';\n    if"),
           ("common/bq/permits_take.c", "    if (row->expires_us == 0)\n        return true;", "    if (row->expires_us >= 0)\n        return true;"),
           ("tests/bq/sql_update.c", " AND job = @seen_job AND (holder = '' OR expires < CURRENT_TIMESTAMP())", " AND job = @seen_job"),
           ("tests/bq/sql_update.c", ' && (text_is(at[HOLDER], "") || number(at[EXPIRES]) < now_us)', "")),
    defect("no-wait-for-the-named-job", "who takes over an expired permit does not wait for its last holder's job",
           ("common/bq/permits_hold.c", "    if (p->orphan[0])\n        permits_settle(p);\n    else if", "    p->orphan[0] = '\\0';\n    if")),
    defect("no-fence", "the guarded statement does not look whether the permit is still ours",
           ("common/fleet/cut_text.c", "c.fence = r->permits > 0 ? &fence : NULL;", "c.fence = NULL;")),
    defect("silent-fence", "without the permit the statement does nothing, and succeeds",
           ("tests/bq/sql_source.c", 'return run_fail(r, "invalidQuery", "bqfleet: the permit is lost%s"',
            'r->count = 0;\n    return 0;\n    return run_fail(r, "invalidQuery", "bqfleet: the permit is lost%s"')),
    defect("shard-name-reused", "a shard is named by its worker alone, so a restart takes the old one",
           ("worker/worker.c", "    rnd_text(w->w.rnd, w->incarnation, INCARNATION_LEN);",
            "    for (size_t i = 0; i < INCARNATION_LEN; i++)\n        w->incarnation[i] = (char)('a' + (unsigned char)w->name[i % strcspn(w->name, \".\")] % 26);")),
    defect("duplicate-excludes-itself", "the second copy of a manifest excludes the items of its own load",
           ("common/fleet/fold_manifest.c", "    if (m->load[0] != '\\0' && name_find(fold_index(f)->loads, m->load) >= 0)\n        return 1;",
            "    int64_t twin = m->load[0] != '\\0' ? name_find(fold_index(f)->loads, m->load) : -1;\n"
            "    for (size_t i = 0; twin >= 0 && i < m->range_count; i++)\n        for (int64_t k = 0; k < m->ranges[i].count; k++) {\n"
            "            if (f->loads[twin].exclusion_count == 0)\n                f->loads[twin].first_exclusion = f->exclusion_count;\n"
            "            exclude(f, (size_t)twin, m->ranges[i].first + k);\n        }\n    if (twin >= 0)\n        return 1;")),
    defect("own-delivery-only", "an acknowledged manifest marks only the delivery that its load was made of",
           ("worker/item.c", "    for (const struct delivery *d = &i->first; d != NULL; d = d->next)\n        intake_done",
            "    const struct delivery *d = &i->first;\n        intake_done")),
    defect("cut-after-the-end", "cuts that come after the run's end count",
           ("common/fleet/fold.c", "    if (f->phase == RUN_ENDED || f->phase == RUN_HELD)\n        return 1;\n    if (m->shard[0] != '\\0')",
            "    if (m->shard[0] != '\\0')")),
    defect("cancel-drops-cuts", "cuts that stood before a cancel are forgotten",
           ("common/fleet/fold.c", "    end_run(f, ends[m->type], offset, m->text);\n    return 0;",
            "    end_run(f, ends[m->type], offset, m->text);\n    if (m->type == LOGM_CANCEL)\n        fold_void_open_cuts(f, -1);\n    return 0;")),
    defect("dropped-before-the-outcome", "staging is removed when the run has ended, before its last cut's outcome",
           ("coordinator/track_act.c", "    if (fold_settled(f))\n        finish(t);", "    if (f->phase == RUN_ENDED)\n        finish(t);")),
    defect("load-recreates-its-table", "a load makes its shard anew when it is gone, and nobody counts",
           ("worker/load.c", "    l->config = bq_load_config(shard);\n",
            "    l->config = bq_load_config(shard);\n    doc_set_str((doc *)doc_get(l->config, \"load\"), \"createDisposition\", \"CREATE_IF_NEEDED\");\n"
            "    doc_set((doc *)doc_get(l->config, \"load\"), \"schema\", record_shard_schema(l->run->record));\n"), MODEL_IGNORES_COUNTS),
    defect("next-try-unknown", "a request about a job that fails is taken for the job's failure, and the next try begins",
           ("common/bq/job.c", "    j->results_failed = a->err != NULL;\n",
            "    j->results_failed = a->err != NULL;\n    if (a->err) {\n        struct error err = *a->err;\n        set_try(j, j->k + 1);\n"
            "        job_wait_retry(j, j->k, &err);\n        return;\n    }\n"),
           ("common/bq/job.c", "[STEP_RESULTS] = TO(READ)", "[STEP_RESULTS] = TO(WAIT_RETRY) | TO(READ)")),
    defect("skips-one-too-many", "a partition is read from one message behind what was committed",
           ("worker/intake.c", "p->map = ackmap_new(committed);", "p->map = ackmap_new(committed > 0 ? committed + 1 : committed);")),
    defect("failures-unbounded", "a run with more failures than it tolerates is written",
           ("common/fleet/fold.c", "    if (fold_over_tolerance(f)) {\n        set_phase(f, RUN_HELD);", "    if (fold_over_tolerance(f) && false) {\n        set_phase(f, RUN_HELD);")),
    defect("rows-of-a-failed-attempt", "rows of an attempt that failed go with those of the next",
           ("worker/dispatch.c", "    if (v.outcome != OUT_DONE && v.outcome != OUT_LOADED)\n        item_drop_rows(item);", "")),
    defect("older-run-not-awaited", "a run writes although the one that it replaced is still writing",
           ("coordinator/track_act.c", "t->waits_for_older = cut != NULL && catalog_older_open(catalog_watch_runs(t->o.watch), t->record);", "t->waits_for_older = false;")),
    defect("lost-without-commits", "items are taken for lost although their offsets are not committed",
           ("coordinator/track_act.c", "    while (t->lost_at < f->end_count && committed(t, t->lost_at))", "    (void)committed;\n    while (t->lost_at < f->end_count)")),
    defect("another-runs-view-is-taken", "a run takes a view that another one has not yet given free",
           ("common/fleet/cut_view.c", "    if (v->state.open) {\n        error_set(&err, ERR_RETRY, 0, \"run %s is at the view", "    if (false) {\n        error_set(&err, ERR_RETRY, 0, \"run %s is at the view")),
    defect("compacts-all-but-the-last", "a compaction leaves out the last cut that was only listed",
           ("common/fleet/cut_text.c", "l->cut >= p->from && l->cut < p->cut &&", "l->cut >= p->from && l->cut < p->cut - 1 &&")),
    defect("dropped-before-the-release", "the tables that a view names are dropped before it is released",
           ("coordinator/track_act.c", "    if (!is_released(t))\n        return;\n", "    (void)is_released(t);\n")),
    defect("partition-of-null-forgotten", "rows without a value do not replace such rows beside others",
           ("common/fleet/cut_text.c", "    g->range_null = g->range_null || l->range_null;", "    g->range_null = !l->has_range && l->range_null;")),
    defect("one-side-of-what-is-outside", "integers above all ranges do not replace those below",
           ("common/bq/sql_params.c", "        lo = i64_min(lows[0], lows[1]);\n        hi = i64_max(highs[0], highs[1]);", "        lo = lows[0];\n        hi = highs[1];")),
)
