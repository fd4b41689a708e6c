"""The HTTP kit that the surfaces share: requests, answers, authentication, ranges, paging."""
