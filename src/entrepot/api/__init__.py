"""The management API: organisations, people, projects, repositories, tokens, the audit log."""
