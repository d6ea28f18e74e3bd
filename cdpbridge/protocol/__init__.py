"""The Chrome DevTools Protocol as Python values. Generated modules are loaded on first use."""
