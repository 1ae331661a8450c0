"""The storage of archived images: objects, folders, buckets, and image checks. No jobs."""
