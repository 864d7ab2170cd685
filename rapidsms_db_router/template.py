"""``python -m rapidsms_db_router.template`` prints the folder of the project template.

Made for ``django-admin startproject --template "$(python -m rapidsms_db_router.template)"``.
"""

from pathlib import Path

#: Its Python files end in ``.py-tpl``, so that nothing imports them as they are.
FOLDER = Path(__file__).parent / "project_template"

if __name__ == "__main__":
    print(FOLDER)
