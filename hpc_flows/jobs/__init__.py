"""Jobs: how task runs become jobs of a batch system, and what runs inside them."""
