"""DKIM with OpenSSL: keys in a folder, signatures, and new keys with their DNS records."""
