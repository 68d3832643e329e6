"""The namenode's duties between calls: one module for each, a thin loop around a pure decision.

    watch      datanodes that die or come back  ->  rows of work
    spread     a cluster that has grown         ->  rows of work
    drain      datanodes that shall leave       ->  rows of work, decommissioned
    repair     rows of work                     ->  commands to pull, and to delete bad and surplus replicas
    trim       too many replicas                ->  the others verified, one marked as surplus
    balance    fuller and emptier datanodes     ->  commands to pull
    sweep      removed trees, retired contents, idle drafts  ->  references counted down
    collect    unreferenced chunks              ->  condemned, deleted at their datanodes, tombstones
    forget     old results, changes, tombstones ->  gone
    safety     why deletion and repair are held back now
    supervise  runs them, and ends the process when one can't go on

Only the leader runs them; every transaction of theirs checks the leader's epoch first.
"""
