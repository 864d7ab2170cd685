"""The sender: claims batches, calls backends in threads, writes down how the calls ended."""
