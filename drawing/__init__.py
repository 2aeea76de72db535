"""Development: writes workflows, notes, blueprints, thumbnails, help pictures and locales."""
