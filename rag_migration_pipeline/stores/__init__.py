"""Where vectors live: one promise (`base`), one adapter per store, wrappers around them."""
