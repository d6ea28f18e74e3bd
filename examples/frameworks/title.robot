*** Comments ***
Robot Framework on a rented browser: pip install 'cdpbridge[local]' robotframework-browser-batteries; robot title.robot

*** Settings ***
Library     Browser    enable_playwright_debug=disabled
Library     cdpbridge.integrations.robot.RentedBrowser

*** Variables ***
${URL}      https://example.com

*** Test Cases ***
The Page Has A Title
    Open Rented Browser    timeout=5 minutes
    New Page    ${URL}
    ${title} =    Get Title
    Log To Console    ${title}
    Should Not Be Empty    ${title}
