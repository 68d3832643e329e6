"""The namenode's memory: the schema, the engine that commits in groups, and the queries by subject.

    sqlite        opening, reading, closing          transaction   what operations see
    writer        group commit                       schema        the tables
    guard         one namenode for one directory     generate      big stores for trials
    namespace contents drafts chunks oplog …         queries by subject: all SQL is in these modules

Everything that must survive a kill is here, and nothing else is: the process may die between any two statements.
"""
